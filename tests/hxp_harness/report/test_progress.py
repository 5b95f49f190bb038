"""How far a run is: the figures follow from schedule, traces and the time that is given."""

from __future__ import annotations

import math

import pytest

from hxp_harness.load.plan import Due
from hxp_harness.report.progress import Goal, Progress
from hxp_harness.trace import ErrorKind, Trace

T0_S = 5000.0  # of the caller's clock


def due(count: int, gap_s: float = 0.1, warm_up: int = 0) -> list[Due]:
    return [
        Due(i, -1 if i < warm_up else (i - warm_up) * 2 // (count - warm_up), i * gap_s, 8, 8, i) for i in range(count)
    ]


def trace(one: Due, latency_s: float = 0.05, **changes: object) -> Trace:
    first_s, last_s = one.intended_s + latency_s / 2, one.intended_s + latency_s
    values: dict[str, object] = {
        "sent_s": one.intended_s,
        "end_s": last_s,
        "token_lo_s": (first_s, last_s),
        "token_hi_s": (first_s, last_s),
        "output_tokens": 3,
    }
    return Trace(one.index, one.replicate, one.intended_s, 8, 8, **(values | changes))  # type: ignore[arg-type]  # as Trace has them


def test_before_anything_happened_nothing_is_claimed() -> None:
    """Without a trace there is no rate and no percentile."""
    glance = Progress(due(10), Goal()).glance(T0_S)
    assert (glance.statistic_s, glance.offered_rps, glance.achieved_rps, glance.errors) == (None, 0.0, 0.0, 0)
    assert (glance.measured, glance.planned, glance.replicates) == (0, 10, 2)


def test_an_empty_schedule_is_shown() -> None:
    """A load of nothing has nothing left."""
    glance = Progress([], Goal()).glance(T0_S)
    assert (glance.left_s, glance.planned, glance.replicate) == (0.0, 0, -1)


def test_rates_flight_and_time_left_follow_from_the_schedule() -> None:
    """Half-way through, at 10 requests a second answered in 50 ms, the figures say so."""
    ones = due(200)
    progress = Progress(ones, Goal())
    progress.add([trace(one) for one in ones[:99]], T0_S + 9.85)
    glance = progress.glance(T0_S + 9.96)
    assert glance.offered_rps == pytest.approx(10.0, rel=0.05)
    assert glance.achieved_rps == pytest.approx(10.0, rel=0.05)
    assert glance.in_flight == 1
    assert glance.left_s == pytest.approx(19.9 - 9.96, abs=0.02)
    assert (glance.replicate, glance.measured) == (0, 99)


@pytest.mark.parametrize(("metric", "value_s"), [("e2e", 0.05), ("ttft", 0.025), ("tpot", 0.0125), ("something", 0.05)])
def test_the_followed_metric_is_the_gates(metric: str, value_s: float) -> None:
    """The percentile so far is of the metric that gates; of one that cannot be followed, e2e is shown."""
    ones = due(20)
    progress = Progress(ones, Goal(metric, 0.95))
    progress.add([trace(one) for one in ones], T0_S)
    assert progress.glance(T0_S).statistic_s == pytest.approx(value_s)


def test_failures_are_infinitely_late() -> None:
    """One failure in ten makes the p95 so far infinite, as it will for the judge."""
    ones = due(10)
    progress = Progress(ones, Goal())
    failed = trace(ones[0], error=ErrorKind.RESET)
    progress.add([failed, *(trace(one) for one in ones[1:])], T0_S + 1)
    glance = progress.glance(T0_S + 1)
    assert glance.statistic_s == math.inf
    assert glance.errors == 1


def test_warm_up_is_not_measured() -> None:
    """Traces of the warm-up count as errors when they fail, never into the percentile."""
    ones = due(20, warm_up=10)
    progress = Progress(ones, Goal())
    progress.add([trace(one, error=ErrorKind.HTTP) for one in ones[:5]], T0_S + 0.45)
    glance = progress.glance(T0_S + 0.45)
    assert (glance.statistic_s, glance.errors, glance.replicate) == (None, 5, -1)


def test_a_request_that_was_never_sent_has_no_end() -> None:
    """A trace without an end does not move the clock."""
    ones = due(10)
    progress = Progress(ones, Goal())
    progress.add([trace(ones[0], end_s=None, error=ErrorKind.NOT_SENT)], T0_S)
    assert progress.glance(T0_S).offered_rps == 0.0


def test_goal_has_a_name() -> None:
    """The goal reads as in the gate."""
    assert Goal("ttft", 0.999, 0.1).name == "ttft p99.9"
