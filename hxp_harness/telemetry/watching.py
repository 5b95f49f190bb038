"""The sampler as a run sees it: a process of its own beside the load, started, stopped and read back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from hxp_harness.target import Evidence, Target
from hxp_harness.telemetry.reading import PART_FILE, PLAN_FILE, Plan, Reading, read_readings
from hxp_harness.telemetry.series import ServerSeries, write_series

_STOP_S = 3.0
_LOCAL = {"127.0.0.1", "::1", "localhost"}


def plan_for(target: Target, *, metrics: bool) -> Plan:
    """Return what to read of `target`; `metrics`: its page has counters.

    The GPUs of this machine are its own only where it runs here, and a simulation uses none.
    """
    gpu = target.host in _LOCAL and target.evidence is not Evidence.SIMULATED
    return Plan(metrics_url=target.metrics_url if metrics else "", gpu=gpu)


@contextmanager
def watched(folder: Path, plan: Plan) -> Iterator[None]:
    """Sample as `plan` says while the context lasts; what was read lies in `folder`. Nothing to read: no process."""
    if not plan.metrics_url and not plan.gpu:
        yield
        return
    (folder / PLAN_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(plan)) + b"\n")
    argv = [sys.executable, "-m", "hxp_harness.telemetry.sampler", str(folder)]
    with (folder / "telemetry.log").open("wb") as log:
        process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=log, stderr=log, process_group=0
        )  # Ctrl-C reaches us alone
    try:
        yield
    finally:
        assert process.stdin is not None  # noqa: S101 - a pipe was asked for
        process.stdin.close()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def keep(folder: Path, t0_monotonic_s: float) -> ServerSeries | None:
    """Turn what was read into server.parquet, with times since the run's t0; None where nothing was read."""
    readings: list[Reading] = read_readings(folder / PART_FILE)
    if not readings:
        return None
    series = ServerSeries.of(readings, t0_monotonic_s)
    write_series(folder, series)
    (folder / PART_FILE).unlink()
    return series
