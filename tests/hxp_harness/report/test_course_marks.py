"""The picture of latency shows what the checks on its course saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hxp_harness.metrics.table import TraceTable
from hxp_harness.report.plots import latency_over_time
from hxp_harness.report.record import Record, read_record
from hxp_harness.trace import Trace
from tests.hxp_harness.report.conftest import answers, schedule

MakeRun = Callable[..., Path]
COUNT, REQUESTS = 8, 500
AT = (0.75 * COUNT * REQUESTS + REQUESTS // 5) / (COUNT * REQUESTS + REQUESTS // 5)  # of all, warm-up included


@pytest.fixture
def record(make_run: MakeRun) -> Record:
    return read_record(make_run())


def slowed(factor: Callable[[float], float]) -> TraceTable:
    """A run whose latency is so many times as long at each share of its way."""
    found = answers(schedule(COUNT, REQUESTS, 50.0), 1.0)
    return TraceTable.from_traces(_longer(trace, factor(trace.index / len(found))) for trace in found)


def _longer(trace: Trace, factor: float) -> Trace:
    lo, hi = (
        tuple(trace.intended_s + factor * (at_s - trace.intended_s) for at_s in times)
        for times in (trace.token_lo_s, trace.token_hi_s)
    )
    return replace(trace, token_lo_s=lo, token_hi_s=hi, end_s=hi[-1] + 1e-4)


@pytest.mark.parametrize(
    ("factor", "label"),
    [
        (lambda share: 1.0 + 0.8 * share, "drift to"),
        (lambda share: 1.0 if share < AT else 1.6, "jump to"),
        (lambda share: 5.0 if share < 0.15 else 1.0, "not settled, not judged"),
    ],
    ids=["drift", "jump", "cold start"],
)
def test_the_course_is_marked(record: Record, factor: Callable[[float], float], label: str) -> None:
    """A drift, a jump and a beginning that is not judged are drawn and named."""
    assert label in latency_over_time(record, slowed(factor))


def test_a_level_course_has_no_marks(record: Record) -> None:
    """Where latency holds its level nothing is drawn over it."""
    picture = latency_over_time(record, slowed(lambda _: 1.0))
    assert not any(word in picture for word in ("drift to", "jump to", "not settled"))
