"""What a run shows at its rate, and where the knee, the cliff and the frontier of many runs lie."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hxp_harness.capacity.point import Point, cliff, frontier, knee, point_of
from hxp_harness.gates.outcome import Outcome
from hxp_harness.report.record import read_record

MakePoint = Callable[..., Point]


def test_the_knee_is_where_work_per_wait_is_largest(point: MakePoint) -> None:
    """For a latency of 1/(1 - rate/100) Kleinrock's ratio is largest at half the capacity."""
    found = knee([point(rate) for rate in (10, 30, 50, 70, 90)])

    assert found is not None
    assert found.rate_rps == 50
    assert knee([point(10), point(50), point(90, Outcome.INVALID, lost=True)]) is None


def test_the_cliff_is_the_lowest_rate_that_is_not_kept_up_with(point: MakePoint) -> None:
    """A server that completes 100 of 104 keeps up; of 110 and 200 the lower one is the cliff."""
    assert cliff([point(200), point(110), point(104), point(90)]) == point(110)
    assert cliff([point(104), point(90), point(300, Outcome.INVALID, lost=True)]) is None


def test_the_frontier_leaves_out_what_is_beaten(point: MakePoint) -> None:
    """More load gives more tokens to all and fewer to each, until overload gives each less for nothing."""
    beaten = replace(point(60), tokens_per_s=10.0)
    found = frontier([point(90), beaten, point(30), point(60), point(150), point(20, Outcome.INVALID, lost=True)])

    assert [one.rate_rps for one in found] == [30, 60, 90, 150]
    assert beaten not in found
    assert frontier([]) == []


@pytest.mark.parametrize(("median_s", "verdict", "leans"), [(1.2, "PASS", True), (3.0, "FAIL", False)])
def test_a_point_is_read_from_its_record(
    make_run: Callable[..., Path], median_s: float, verdict: str, leans: bool
) -> None:
    """Rates, speeds and the gated estimate of a point are those of the run's record."""
    record = read_record(make_run(median_s=median_s, gates=("e2e p95 <= 2000 ms", "error_rate <= 1 %")))
    found = point_of(record, 50.0, "run-01", certifying=True, output_tokens=64)

    assert record.verdict == found.outcome == verdict
    assert found.leans is leans
    assert found.gated_s == record.gates[0].estimate
    assert found.completed_rps == record.metrics["throughput"].mean
    assert found.tokens_per_s_user == pytest.approx(1 / (record.metrics["tpot"].mean or 0))


def test_without_streaming_a_user_sees_the_whole_answer_at_once(make_run: Callable[..., Path]) -> None:
    """Where there are no gaps between tokens a user's speed is the answer's length over its whole time."""
    record = read_record(make_run())
    plain = record.model_copy(update={"metrics": {name: row for name, row in record.metrics.items() if name != "tpot"}})

    found = point_of(plain, 50.0, "run-01", certifying=False, output_tokens=64)

    assert found.tokens_per_s_user == pytest.approx(64 / (record.metrics["e2e"].mean or 0))


def test_what_was_not_estimated_leans_nowhere(make_run: Callable[..., Path]) -> None:
    """A run of which a gate has no estimate, or that is INVALID, does not lean to a PASS."""
    record = read_record(make_run())
    blind = record.model_copy(
        update={"gates": (record.gates[0].model_copy(update={"estimate": None}),), "verdict": "INCONCLUSIVE"}
    )

    assert not point_of(blind, 1.0, "r", certifying=False, output_tokens=64).leans
    invalid = record.model_copy(update={"verdict": "INVALID"})
    assert not point_of(invalid, 1.0, "r", certifying=False, output_tokens=64).leans
