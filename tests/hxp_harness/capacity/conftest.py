"""Records of runs and of searches, made up."""

from collections.abc import Callable

import pytest

from hxp_harness.capacity.point import Point
from hxp_harness.capacity.record import CapacityRecord
from hxp_harness.gates.outcome import Outcome
from hxp_harness.target import Evidence
from tests.hxp_harness.report.conftest import make_run

__all__ = ["make_run"]

MakePoint = Callable[..., Point]
HOSTILE = '<script>alert("x")</script> | `rm` \x1b[31m'


@pytest.fixture
def point() -> MakePoint:
    """Make a point of a server that serves 100 rps: above, it completes 100 and latency explodes."""

    def make(rate: float, outcome: Outcome = Outcome.PASS, *, certifying: bool = False, lost: bool = False) -> Point:
        latency_s = 0.1 / max(1 - rate / 100, 0.02)
        done = None if lost else min(rate, 100.0)
        return Point(
            rate_rps=rate,
            folder=f"run-{rate:g}",
            certifying=certifying,
            outcome=outcome,
            leans=outcome is Outcome.PASS,
            headline=f"{HOSTILE} at {rate:g}",
            completed_rps=done,
            tokens_per_s=None if done is None else done * 64,
            tokens_per_s_user=None if lost else 64 / latency_s,
            mean_e2e_s=None if lost else latency_s,
            gated_s=None if lost else 2 * latency_s,
        )

    return make


@pytest.fixture
def record(point: MakePoint) -> CapacityRecord:
    """A search that found 70 to pass and 120 to fail."""
    bare = CapacityRecord(
        schema=1,
        id="x",
        started="2026-11-20T10:00:00+00:00",
        title=HOSTILE,
        profile="mixtral",
        evidence=Evidence.SIMULATED,
        target={"engine": "sim"},
        gates=("e2e p95 <= 2000 ms",),
        start_rps=50.0,
        resolution=0.05,
        predicted_rps=80.0,
    )
    tried = [
        point(20),
        point(50),
        point(70, certifying=True),
        point(120, Outcome.FAIL, certifying=True),
        point(200, Outcome.INVALID, lost=True),
        point(200, Outcome.INVALID, lost=True),
    ]
    return bare.with_points(tuple(tried))
