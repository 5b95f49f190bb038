"""What a worker does between its fork and its end."""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import gc
import itertools
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol

import uvicorn
from prometheus_client import Counter
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Receive, Scope, Send

from reference_stack.errors import StackError
from reference_stack.place import DOOR, Command, Place
from reference_stack.schemas.configuration.process import MetricsDoorSettings, ProcessSettings
from reference_stack.workers.board import Board, Slab
from reference_stack.workers.control import command
from reference_stack.workers.counts import Mirror, count_in
from reference_stack.workers.lines import Lines, log_to
from reference_stack.workers.page import page_of
from reference_stack.workers.server import Ending, SideServer, WorkerServer, serve_all

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
_TICK_S = 0.05
# Objects made and not freed before the youngest are looked at, and how many such looks before one at the next older.
_COLLECT_AT = (1000, 10, 20)
_TURNS_A_COPY = 20
_LAST_LINES_S = 1.0
_COMMAND_S = 120.0


class WorkerSettings(Protocol):
    """What the settings of a service with workers have."""

    @property
    def workers(self) -> int: ...
    @property
    def process(self) -> ProcessSettings: ...
    @property
    def metrics(self) -> MetricsDoorSettings: ...


@dataclass(frozen=True, slots=True)
class Service:
    """A service with workers. `read` gives its settings as they are written down now, or raises SettingsError;
    `create` makes its application in a worker; `config` is how uvicorn serves it.
    """

    name: str
    read: Callable[[], Any]
    create: Callable[[Any, Place], ASGIApp]
    config: Callable[[Any], uvicorn.Config]


@dataclass(frozen=True, slots=True)
class Post:
    """Where one worker stands: its parent, its share of the memory, its listeners by door, its end of the pipe on which
    it says that it serves.
    """

    parent: int
    board: Board
    slab: Slab
    listeners: Mapping[str, socket.socket]
    ready_to: int


def work(service: Service, settings: WorkerSettings, post: Post) -> NoReturn:
    """Be a worker until told to end. Runs in the forked process, and leaves it."""
    code = 1
    try:
        _die_with(post.parent)
        _serve(service, settings, post)
        code = 0
    except StackError as error:
        print(f"hxp-stack: {error}", file=sys.stderr)
        code = error.exit_code
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - the last line of this process: its log is where it belongs
        traceback.print_exc()
    finally:
        # As a forked process should: what was registered is done, nothing that the parent shares is torn down.
        atexit._run_exitfuncs()  # noqa: SLF001 - there is no public way to end with these and without the rest
        sys.stderr.flush()
        os._exit(code)


def _die_with(parent: int) -> None:
    """Let the kernel kill us when `parent` is gone; it may have gone before we could ask."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_NAME, b"hxp-worker", 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _serve(service: Service, settings: WorkerSettings, post: Post) -> None:
    # Ctrl-C goes to every process of a terminal; the parent hears it and tells us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    process = settings.process
    lines = Lines(most_held=process.log_lines)
    log_to(lines)
    count_in(post.slab)
    dropped = Counter("hxp_gateway_log_lines_dropped", "Log lines that nobody took in time.", registry=None)
    lines.on_drop = dropped.inc
    collectors: list[Collector] = []
    mirror = Mirror(post.slab, collectors)
    place = Place(
        page_of(post.board, mirror), lambda: post.board.stopping, lines.put, collectors, _command_to(process.control)
    )
    app = service.create(settings, place)

    def ready() -> None:
        _spare_the_collector()
        os.write(post.ready_to, b"1")
        os.close(post.ready_to)

    def cut() -> None:
        for each in place.on_cut:
            each()

    config = service.config(app)
    main = WorkerServer(config, Ending(process.drain_s, process.idle_s), ready=ready, left=post.slab.leave, cut=cut)
    sides = [
        (SideServer(uvicorn.Config(_door(app, name), log_config=None, access_log=False, lifespan="off")), sock)
        for name, sock in post.listeners.items()
        if name
    ]

    async def run() -> None:
        tick = asyncio.create_task(_go_round(post.slab, lines, mirror, place.on_turn))
        try:
            await serve_all(main, post.listeners[""], sides)
        finally:
            tick.cancel()

    try:
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(run())
    finally:
        lines.end(_LAST_LINES_S)


def _spare_the_collector() -> None:
    """Let the collector look at everything seldom: while it does, all requests are held up.

    What there is before the first request stays for good. Requests and connections free themselves when they end; what
    else leaves something to collect leaves a bounded amount, by the number of objects that makes it look.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AT)


def _command_to(control: Path | None) -> Command | None:
    """Return what takes commands to the parent that listens at `control`."""
    if control is None:
        return None

    async def commanded(word: str) -> dict[str, object]:
        return await asyncio.to_thread(command, control, word, _COMMAND_S)

    return commanded


def _door(app: ASGIApp, name: str) -> ASGIApp:
    """Return `app` as it is behind the door `name`."""

    async def marked(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, DOOR: name}, receive, send)

    return marked


async def _go_round(slab: Slab, lines: Lines, mirror: Mirror, on_turn: Sequence[Callable[[], None]]) -> None:
    """Say that the loop goes round, write the log lines of the last moment at once, let others see what is counted."""
    lines.patient = True
    try:
        for turn in itertools.count():
            slab.beat()
            lines.flush()
            for each in on_turn:
                each()
            if turn % _TURNS_A_COPY == 0:
                mirror.copy()
            await asyncio.sleep(_TICK_S)
    finally:
        lines.patient = False
        mirror.copy()
