"""Runs a stack in this process until it is told to stop: what `up` is, detached or not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping

import psutil

from reference_stack.errors import NotReady, StackError
from reference_stack.orchestration import state as states
from reference_stack.orchestration.deployment.plan import Plan, draw
from reference_stack.orchestration.deployment.room import Room
from reference_stack.orchestration.deployment.want import Want
from reference_stack.orchestration.rereading import asked_for
from reference_stack.orchestration.rereading import watch as watch_configuration
from reference_stack.orchestration.supervisor import State, Supervisor

log = logging.getLogger(__name__)


def run(want: Want, *, as_json: bool, until_eof: bool) -> int:
    """Start what is wanted, say so, run until SIGTERM, SIGINT or (with `until_eof`) the end of standard input.

    Returns 0, or 5 when it did not come up; nothing is left running in either case.
    """
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    return asyncio.run(_run(want, as_json=as_json, until_eof=until_eof))


async def _run(want: Want, *, as_json: bool, until_eof: bool) -> int:
    running = states.read(want.folder)
    if running is not None and running.alive:
        return _refuse(already(want, running), as_json=as_json)
    stop = _stop_requested(until_eof=until_eof)
    mine = states.StackState(os.getpid(), psutil.Process().create_time())
    want.folder.mkdir(parents=True, exist_ok=True)

    def say(text: str) -> None:
        log.info(text)
        mine.said += (text,)
        states.write(want.folder, mine)

    try:
        with Room(want, say) as room:
            states.write(want.folder, mine)
            plan = await asyncio.to_thread(draw, room)  # installs and initialises what is missing: signals are heard
            mine.notes = plan.notes
            await _serve(room, plan, mine, stop, as_json=as_json)
    except StackError as error:
        mine.phase, mine.error, mine.hint = "failed", error.message, error.hint
        states.write(want.folder, mine)
        return _refuse(error, as_json=as_json)
    states.forget(want.folder)
    return 0


def already(want: Want, running: states.StackState) -> NotReady:
    """Return the error that says that the stack of this folder runs."""
    return NotReady(
        f"a stack runs already in {want.folder} (pid {running.pid}, {running.phase})",
        hint=f"see it: hxp-stack status --folder {want.folder}; stop it: hxp-stack down --folder {want.folder}",
    )


async def _serve(room: Room, plan: Plan, mine: states.StackState, stop: asyncio.Event, *, as_json: bool) -> None:
    began = time.monotonic()
    folder = room.want.folder

    def watch(name: str, state: State, after_s: float) -> None:
        mine.units[name] = state.value
        mine.ended = dict(supervisor.told)
        mine.pids.pop(name, None)
        if state is State.READY:
            pid = mine.pids[name] = supervisor.process(name).pid
            if name in mine.services:  # a new process of a service that was offered
                mine.services = {**mine.services, name: {**mine.services[name], "pid": pid}}
        states.write(folder, mine)
        if state is State.READY and after_s:
            print(f"{name} ready after {after_s:.1f} s", file=sys.stderr, flush=True)

    mine.down_s += max((unit.grace_s for unit in plan.units), default=0.0)
    mine.units = {unit.name: State.WAITING.value for unit in plan.units}
    supervisor = Supervisor(plan.units, room.logs, watch)
    rereading: asyncio.Task[None] | None = None
    asked = asked_for()
    starting = asyncio.create_task(supervisor.start())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    try:
        if not starting.done():
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await starting
            return
        starting.result()
        settings = {unit.name: unit.settings for unit in plan.units}
        mine.services = {
            name: offer.row(supervisor.process(name).pid, supervisor.held(name), settings.get(name))
            for name, offer in plan.offers.items()
        }
        mine.phase = "ready"
        states.write(folder, mine)
        print(f"all ready after {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
        if as_json:
            _say({"ready": True, "services": mine.services})
        rereading = asyncio.create_task(watch_configuration(room, supervisor, mine, asked))
        await stopping
        mine.phase = "stopping"
    finally:
        stopping.cancel()
        if rereading is not None:
            rereading.cancel()
        await supervisor.stop()


def _stop_requested(*, until_eof: bool) -> asyncio.Event:
    """Return an event that is set when somebody wants us to end."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if until_eof:

        def look() -> None:
            if not os.read(0, 4096):
                loop.remove_reader(0)
                stop.set()

        try:
            loop.add_reader(0, look)
        except PermissionError:  # a file, or /dev/null: it has no end to wait for, nor anybody behind it
            stop.set()
    return stop


def _refuse(error: StackError, *, as_json: bool) -> int:
    if as_json:
        _say({"ready": False, "error": error.message, "hint": error.hint})
    else:
        print(f"hxp-stack: {error}", file=sys.stderr)
    return error.exit_code


def _say(row: Mapping[str, object]) -> None:
    # The reader may be gone by now; the end of its pipe tells us so in a moment.
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps(row), flush=True)
