"""The process that reads the server's counters every second: `python -m hxp_harness.telemetry.sampler FOLDER`.

It reads telemetry.json of the folder and appends to server.part, until its standard input ends or SIGTERM comes. It
has the lowest priority but one, and every page has a bound in time and size: a server that answers slowly costs
readings, never the load. A tick that passed while a page was awaited is left out, not caught up.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import httpx
import msgspec

from hxp_harness.metrics.scrape import PageError, parse_page, read_page
from hxp_harness.telemetry.gpu import Gpus, open_gpus
from hxp_harness.telemetry.reading import PART_FILE, PLAN_FILE, Plan, Reading

NICENESS = 10
_SHARE = 0.8  # of the interval that a page may take

Fetch = Callable[[], str]
Wait = Callable[[float], bool]  # until a time on the monotonic clock; True when it is over


def sample(plan: Plan, fetch: Fetch | None, gpus: Gpus | None, keep: Callable[[Reading], None], wait: Wait) -> None:
    """Keep one reading a tick until `wait` says that it is over; ticks are `every_s` apart from the first on."""
    begin_s = due_s = time.monotonic()
    for _ in range(plan.most):
        keep(_read(due_s, fetch, gpus))
        ticks = int((time.monotonic() - begin_s) / plan.every_s) + 1
        due_s = begin_s + ticks * plan.every_s
        if wait(due_s):
            return


def _read(due_s: float, fetch: Fetch | None, gpus: Gpus | None) -> Reading:
    asked_s = time.monotonic()
    error, scrape = "", None
    if fetch is not None:
        try:
            scrape = parse_page(fetch())
            error = "" if scrape is not None else "no_counters"
        except PageError as why:
            error = why.kind
    seen = None if gpus is None else gpus.read()
    return Reading(due_s, asked_s, time.monotonic() - asked_s, error, scrape, seen)


def _waiting() -> Wait:
    """Return a wait that SIGTERM, SIGINT and the end of standard input end."""
    reading, writing = os.pipe()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        os.write(writing, b".")

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)

    def wait(until_s: float) -> bool:
        ready, _, _ = select.select([0, reading], [], [], max(0.0, until_s - time.monotonic()))
        return bool(ready)

    return wait


def run(folder: Path) -> None:
    """Sample as the plan in `folder` says."""
    plan = msgspec.json.decode((folder / PLAN_FILE).read_bytes(), type=Plan)
    wait = _waiting()
    os.nice(NICENESS)
    encode = msgspec.json.Encoder().encode
    limit_s = plan.every_s * _SHARE
    gpus = open_gpus() if plan.gpu else None
    file = os.open(folder / PART_FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        with httpx.Client(timeout=limit_s, trust_env=False) as client:

            def fetch() -> str:
                return read_page(client, plan.metrics_url, limit_s)

            sample(
                plan,
                fetch if plan.metrics_url else None,
                gpus,
                lambda reading: (os.write(file, encode(reading) + b"\n"), None)[1],
                wait,
            )
    finally:
        os.close(file)
        if gpus is not None:
            gpus.close()


if __name__ == "__main__":
    run(Path(sys.argv[1]))
