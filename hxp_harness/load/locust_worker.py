"""Locust around the hot loops, which are processes of their own: the only importer of locust and gevent.

    python -m hxp_harness.load.locust_worker FOLDER [--clients N]        one host
    python -m hxp_harness.load.locust_worker --listen HOST:PORT --hosts N     the master of several hosts
    python -m hxp_harness.load.locust_worker --join HOST:PORT [--clients N]   a worker, one on each of them

Locust starts, watches and stops, brings master and workers together and shows its web page (--web-port). Its statistics
are fed from the traces so that the page shows something; no verdict ever uses them. The end of standard input, which
comes when the parent is gone, and SIGTERM or SIGINT stop the load early. The master takes JSON lines on standard input
({"load": FOLDER}, {"stop": true}) and says on standard output how far it is.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gevent  # type: ignore[import-untyped]  # ships no types
import locust
from gevent.select import select  # type: ignore[import-untyped]  # ships no types
from locust.env import Environment

from hxp_harness.errors import ExitCode
from hxp_harness.load.build import own_build
from hxp_harness.load.clock import clock_name
from hxp_harness.load.folder import LoadFolder
from hxp_harness.load.hot_loops import LEAD_S, HotLoops
from hxp_harness.load.master import Master
from hxp_harness.load.plan import LoadSummary
from hxp_harness.load.stop_signals import STOP_SIGNALS, let_through
from hxp_harness.load.trace_file import Tail
from hxp_harness.load.worker import Worker
from hxp_harness.trace import Trace

_WATCH_S = 0.05
_TICK_S = 0.02
_FEED_S = 1.0
_HELLO_S = 1.0
_TRIES_MINUTES = 5  # Locust's own: 60 tries of 5 s
_MESSAGE = "hxp"


def feed(environment: Environment, traces: list[Trace]) -> None:
    """Show traces on Locust's page."""
    for trace in traces:
        environment.events.request.fire(  # type: ignore[no-untyped-call]  # locust leaves it untyped
            request_type="POST",
            name="warm-up" if trace.replicate < 0 else f"replicate {trace.replicate}",
            response_time=1000.0 * ((trace.end_s or trace.intended_s) - trace.intended_s),
            response_length=trace.output_tokens or 0,
            exception=None if trace.ok else RuntimeError(trace.error.value),
            context={},
        )


class Foreman(locust.User):
    """Runs the hot loops of one host from their start to their end. `folder` and `status` are set for the process."""

    folder: LoadFolder
    hot_loops: HotLoops
    status = 1

    @locust.task
    def run_schedule(self) -> None:
        while not self.hot_loops.ready:
            gevent.sleep(_WATCH_S)
        if self.hot_loops.status() is None:
            self.hot_loops.go(time.monotonic_ns() + int(LEAD_S * 1e9))
        tail = Tail(self.folder.traces)
        fed_s = 0.0
        while (status := self.hot_loops.status()) is None:
            gevent.sleep(_WATCH_S)
            fed_s += _WATCH_S
            if fed_s >= _FEED_S:
                fed_s = 0.0
                feed(self.environment, tail.read())
        feed(self.environment, tail.read())
        if status == 0:
            self.folder.write_summary(LoadSummary.together(self.hot_loops.summaries()))
        type(self).status = status
        self.environment.runner.quit()


class Sender(locust.User):
    """Stands on Locust's page for the load of one worker, and shows its traces there."""

    traces: Path

    def on_start(self) -> None:
        self._tail = Tail(self.traces)

    @locust.task
    def show(self) -> None:
        gevent.sleep(_FEED_S)
        feed(self.environment, self._tail.read())

    def on_stop(self) -> None:
        feed(self.environment, self._tail.read())


def _at_the_end_of_input(then: Callable[[], None], line: Callable[[str], object] = str) -> None:
    """Call `line` with each line of standard input, and `then` at its end."""
    received = b""
    while True:
        select([sys.stdin], [], [])
        part = os.read(sys.stdin.fileno(), 65536)
        if not part:
            then()
            return
        *lines, received = (received + part).split(b"\n")
        for one in lines:
            line(one.decode())


def _page(environment: Environment, host: str, port: int) -> Callable[[], object]:
    """Show Locust's page; return what takes it away."""
    if not port:
        return lambda: None
    stop: Callable[[], object] = environment.create_web_ui(host, port).stop
    return stop


def alone(options: argparse.Namespace) -> int:
    """Send the load of a folder from this host."""
    hot_loops = HotLoops(options.folder, options.clients)
    for number in STOP_SIGNALS:
        gevent.signal_handler(number, hot_loops.stop)
    let_through()
    gevent.spawn(_at_the_end_of_input, hot_loops.stop)
    Foreman.folder = LoadFolder(options.folder)
    Foreman.hot_loops = hot_loops
    environment = Environment(user_classes=[Foreman])
    runner = environment.create_local_runner()
    close = _page(environment, "127.0.0.1", options.web_port)
    runner.start(user_count=1, spawn_rate=1)
    runner.greenlet.join()
    close()
    return Foreman.status


def _say(message: Mapping[str, Any]) -> None:
    print(json.dumps(message), flush=True)


def lead(options: argparse.Namespace) -> int:
    """Be the master: bring `hosts` workers together and send load through them until standard input ends."""
    host, _, port = options.listen.rpartition(":")
    environment = Environment(user_classes=[Sender])
    runner = environment.create_master_runner(host, int(port))
    master = Master(
        lambda worker, message: runner.send_message(_MESSAGE, dict(message), worker),
        _say,
        time.monotonic_ns,
        expected=options.hosts,
        build=own_build(),
        clock=clock_name(),
    )
    ended = gevent.event.Event()

    def give_up(why: str) -> None:
        _say({"ended": False, "why": why})
        ended.set()

    def obey(line: str) -> None:
        order = json.loads(line)
        master.load(LoadFolder(Path(order["load"]))) if "load" in order else master.stop()

    runner.register_message(_MESSAGE, lambda *, msg, **_: _or(give_up, master.hear, msg.node_id, msg.data))
    close = _page(environment, host, options.web_port)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which says what becomes of it
    let_through()
    gevent.signal_handler(signal.SIGTERM, ended.set)
    gevent.spawn(_at_the_end_of_input, ended.set, lambda line: _or(give_up, obey, line))
    gevent.spawn(_show_state, runner, lambda: master.sending, options.hosts)
    _say({"listening": options.listen})
    while not ended.wait(_TICK_S):
        _or(give_up, master.tick)
    master.close()
    close()
    runner.quit()
    return ExitCode.PASS


def _or(give_up: Callable[[str], None], do: Callable[..., object], *words: object) -> None:
    """Do it, or give up with the reason: Locust and gevent would go on as if nothing had happened."""
    try:
        do(*words)
    except Exception:  # noqa: BLE001 - whatever it is, it ends the load and is told
        give_up(traceback.format_exc(limit=-1).strip())


def _show_state(runner: Any, sending: Callable[[], bool], hosts: int) -> None:
    """Keep what Locust's page says of the load in step with it."""
    while True:
        if sending() != (runner.state in {"running", "spawning"}):
            runner.start(hosts, hosts) if sending() else runner.stop()
        gevent.sleep(_FEED_S / 4)


def join(options: argparse.Namespace) -> int:
    """Be a worker: do what the master says until it is done with us."""
    host, _, port = options.join.rpartition(":")
    environment = Environment(user_classes=[Sender])
    print(f"hxp: waiting for a master at {options.join}, {_TRIES_MINUTES} minutes at most", file=sys.stderr, flush=True)
    try:
        runner = environment.create_worker_runner(host, int(port))
    except ConnectionError:
        print(
            f"hxp: no master answers at {options.join}\n  hxp perf --hosts N --listen {options.join} starts one",
            file=sys.stderr,
        )
        return ExitCode.NOT_READY
    with tempfile.TemporaryDirectory(prefix="hxp-worker-") as folder:
        worker = Worker(
            lambda message: runner.send_message(_MESSAGE, dict(message)),
            time.monotonic_ns,
            Path(folder),
            options.clients,
        )
        Sender.traces = worker.traces
        runner.register_message(_MESSAGE, lambda *, msg, **_: _or(worker.leave, worker.hear, msg.data))
        for number in STOP_SIGNALS:
            gevent.signal_handler(number, worker.leave, "stopped by hand")
        let_through()
        hello = {
            "kind": "hello",
            "name": options.name or socket.gethostname(),
            "clients": options.clients,
            "cores": len(os.sched_getaffinity(0)),
            "build": own_build(),
            "clock": clock_name(),
        }
        said_s = 0.0
        while worker.ended is None:
            if not worker.name and time.monotonic() - said_s > _HELLO_S:
                said_s = time.monotonic()
                runner.send_message(_MESSAGE, hello)
            _or(worker.leave, worker.tick)
            gevent.sleep(_TICK_S)
        gevent.sleep(_WATCH_S)  # let the last word out
    print(f"hxp: {worker.ended or 'the master is done'}", file=sys.stderr, flush=True)
    if worker.refused:
        return ExitCode.USAGE
    return ExitCode.NOT_READY if worker.ended else ExitCode.PASS


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="locust_worker")
    role = parser.add_mutually_exclusive_group(required=True)
    role.add_argument("folder", type=Path, nargs="?")
    role.add_argument("--listen", metavar="HOST:PORT", help="be the master")
    role.add_argument("--join", metavar="HOST:PORT", help="be a worker of the master there")
    parser.add_argument("--hosts", type=int, default=1, help="workers of the master")
    parser.add_argument("--clients", type=int, default=1, help="hot loops that share the load")
    parser.add_argument("--name", default="", help="of the worker; default: the host's")
    parser.add_argument("--web-port", type=int, default=0, help="show Locust's page on this port")
    options = parser.parse_args(argv)
    del sys.argv[1:]  # Locust's page takes them for its own
    if options.listen:
        return lead(options)
    return join(options) if options.join else alone(options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
