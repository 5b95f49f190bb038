"""The yardstick beside a measured run: what is read, kept and read again."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from reference_stack.orchestration.yardstick import FILE, read_drift, write_readings, yardstick

DEADLINE_S = 60.0


def test_the_same_work_is_timed_again_and_again() -> None:
    """Readings come in order, on this program's clock, each with CPU time, and none after the end of the block."""
    cores = os.sched_getaffinity(0)
    began_s = time.monotonic()
    with yardstick() as readings:
        while len(readings) < 4 and time.monotonic() < began_s + DEADLINE_S:
            time.sleep(0.01)  # polls what another thread reads, with a deadline
    count, ended_s = len(readings), time.monotonic()

    assert count >= 4
    moments_s = [at_s for at_s, _ in readings]
    assert moments_s == sorted(moments_s)
    assert began_s <= moments_s[0] <= moments_s[-1] <= ended_s
    assert all(0 < taken_s < 1 for _, taken_s in readings)
    assert os.sched_getaffinity(0) == cores, "only the reading thread changes its core"


def test_readings_are_kept_on_the_clock_of_the_traces(tmp_path: Path) -> None:
    """What was read is read again with moments that count from the start of the load."""
    (tmp_path / "load.done.json").write_text('{"t0_monotonic_s": 98.0}', encoding="utf-8")
    write_readings(tmp_path, [(100.0, 2e-4), (101.0, 3e-4)])
    drift = read_drift(tmp_path)

    assert drift is not None
    assert drift.at_s.tolist() == [2.0, 3.0]
    assert drift.slowness.tolist() == [2e-4, 3e-4]


def test_a_run_without_a_yardstick_has_none(tmp_path: Path) -> None:
    """Runs that were measured otherwise are read as they are."""
    assert read_drift(tmp_path) is None


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"at_s": [0.0]}), json.dumps({"at_s": [], "taken_s": []})])
def test_a_damaged_file_is_told(tmp_path: Path, text: str) -> None:
    """A file that holds no readings is not taken for a machine that keeps its speed."""
    (tmp_path / FILE).write_text(text, encoding="utf-8")

    with pytest.raises(ValueError, match=r"\w"):
        read_drift(tmp_path)
