"""Locust as the foreman of one host: `python -m hxp_harness.load.locust_worker FOLDER [--clients N] [--web-port PORT]`.

A Locust user starts the hot loops as processes of their own, sets them off together, watches and stops them. Locust's
statistics are fed from the traces so that its web page shows something; no verdict ever uses them. The end of standard
input, which comes when the parent is gone, and SIGTERM or SIGINT stop the hot loops early.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import gevent  # type: ignore[import-untyped]  # ships no types
import locust
from gevent.select import select  # type: ignore[import-untyped]  # ships no types
from locust.env import Environment

from hxp_harness.load.folder import LoadFolder
from hxp_harness.load.hot_loops import HotLoops
from hxp_harness.load.plan import LoadSummary
from hxp_harness.load.stop_signals import STOP_SIGNALS, let_through
from hxp_harness.load.trace_file import Tail
from hxp_harness.trace import Trace

_WATCH_S = 0.05
_FEED_S = 1.0
_LEAD_S = 0.1  # from the word to t0: every hot loop has heard it by then


class Foreman(locust.User):
    """Runs the hot loops from their start to their end. `folder` and `status` are set for the process."""

    folder: LoadFolder
    hot_loops: HotLoops
    status = 1

    @locust.task
    def run_schedule(self) -> None:
        while not self.hot_loops.ready:
            gevent.sleep(_WATCH_S)
        if self.hot_loops.status() is None:
            self.hot_loops.go(time.monotonic_ns() + int(_LEAD_S * 1e9))
        tail = Tail(self.folder.traces)
        fed_s = 0.0
        while (status := self.hot_loops.status()) is None:
            gevent.sleep(_WATCH_S)
            fed_s += _WATCH_S
            if fed_s >= _FEED_S:
                fed_s = 0.0
                self._feed(tail.read())
        self._feed(tail.read())
        if status == 0:
            self.folder.write_summary(LoadSummary.together(self.hot_loops.summaries()))
        type(self).status = status
        self.environment.runner.quit()

    def _feed(self, traces: list[Trace]) -> None:
        for trace in traces:
            self.environment.events.request.fire(
                request_type="POST",
                name="warm-up" if trace.replicate < 0 else f"replicate {trace.replicate}",
                response_time=1000.0 * ((trace.end_s or trace.intended_s) - trace.intended_s),
                response_length=trace.output_tokens or 0,
                exception=None if trace.ok else RuntimeError(trace.error.value),
                context={},
            )


def _stop_with_parent(hot_loops: HotLoops) -> None:
    """Stop when standard input ends."""
    while True:
        select([sys.stdin], [], [])
        if not os.read(sys.stdin.fileno(), 1):
            hot_loops.stop()
            return


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="locust_worker")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clients", type=int, default=1, help="hot loops that share the load")
    parser.add_argument("--web-port", type=int, default=0, help="show Locust's page on this port of 127.0.0.1")
    options = parser.parse_args(argv)
    hot_loops = HotLoops(options.folder, options.clients)
    for number in STOP_SIGNALS:
        gevent.signal_handler(number, hot_loops.stop)
    let_through()
    gevent.spawn(_stop_with_parent, hot_loops)
    Foreman.folder = LoadFolder(options.folder)
    Foreman.hot_loops = hot_loops
    environment = Environment(user_classes=[Foreman])
    runner = environment.create_local_runner()
    page = environment.create_web_ui("127.0.0.1", options.web_port) if options.web_port else None
    runner.start(user_count=1, spawn_rate=1)
    runner.greenlet.join()
    if page is not None:
        page.stop()  # type: ignore[no-untyped-call]  # locust leaves it untyped
    return Foreman.status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
