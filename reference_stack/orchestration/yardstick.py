"""A piece of work that is always the same, done again and again beside a load: how fast is the machine meanwhile?

Each reading is the CPU time of the work, so that waiting for a core does not count, taken on one core after the other,
and a second time at once: the first pass only brings it back into the caches. It takes about 1 % of a core.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from reference_stack.services.ai_models.drift import Drift, drift_of

FILE = "yardstick.json"
_SUMMARY = "load.done.json"
_EVERY_S = 0.025
_TURNS = 1500  # some 0.1 ms: long beside the clock's 0.1 us, short beside a step of an engine

Reading = tuple[float, float]  # when, on the monotonic clock, and the CPU seconds that the work took


@contextlib.contextmanager
def yardstick() -> Iterator[list[Reading]]:
    """Read while the block runs; the list that is yielded grows meanwhile, and not after."""
    readings: list[Reading] = []
    over = threading.Event()
    reader = threading.Thread(target=_read, args=(readings, over), name="yardstick", daemon=True)
    reader.start()
    try:
        yield readings
    finally:
        over.set()
        reader.join()


def write_readings(folder: Path, readings: list[Reading]) -> None:
    """Keep `readings` in a run's folder, on the clock of its traces: their zero is what the harness's summary says."""
    t0_s = float(json.loads((folder / _SUMMARY).read_text(encoding="utf-8"))["t0_monotonic_s"])
    rows = {"at_s": [round(at_s - t0_s, 4) for at_s, _ in readings], "taken_s": [taken_s for _, taken_s in readings]}
    (folder / FILE).write_text(json.dumps(rows), encoding="utf-8")


def read_drift(folder: Path) -> Drift | None:
    """Return what the yardstick told during the run in `folder`; None where there was none.

    Raises ValueError where the file says something else.
    """
    try:
        rows = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return drift_of(rows["at_s"], rows["taken_s"])
    except FileNotFoundError:
        return None
    except (KeyError, TypeError) as error:
        raise ValueError(f"no readings: {error!r}") from None


def read_once() -> Reading:
    """Read on the core that this thread is on."""
    _work()
    at_s, began_s = time.monotonic(), time.thread_time()
    _work()
    return at_s, time.thread_time() - began_s


def _read(readings: list[Reading], over: threading.Event) -> None:
    cores = sorted(os.sched_getaffinity(0))
    for core in itertools.cycle(cores):
        os.sched_setaffinity(0, {core})  # of this thread alone
        readings.append(read_once())
        if over.wait(_EVERY_S):
            return


def _work() -> int:
    total = 0
    for turn in range(_TURNS):
        total += turn * turn % 7
    return total
