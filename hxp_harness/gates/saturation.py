"""Whether requests pile up: the service does not keep up with the rate, though they were sent on time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hxp_harness.gates.facts import RunFacts
from hxp_harness.gates.tails import t_above
from hxp_harness.metrics.definitions import window
from hxp_harness.metrics.table import Floats, TraceTable

BLOCKS = 10
# All must hold, so that the swings of a busy but stable server are not taken for a trend.
LEAST_GROWTH_SHARE = 0.01  # of the requests that arrived: the part that the service falls behind
LEAST_GROWTH = 20.0  # requests
LEAST_RATIO = 2.0  # in flight at the end against the beginning
LEAST_LATE_SHARE = 0.25  # of the growth that falls into the second half: a mere start levels off
P_TREND = 0.001


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line through equally spaced points: its rise over all of them, and the chance of it by accident."""

    rise: float
    p: float


def fit(values: Sequence[float]) -> Line:
    """Fit by least squares; `p` is one-sided, for a rise (for a fall it is near 1). Needs 3 values or more."""
    y = np.asarray(values, np.float64)
    x = np.arange(len(y), dtype=np.float64)
    x -= x.mean()
    slope = float((x * y).sum() / (x * x).sum())
    rest = y - y.mean() - slope * x
    error = float(np.sqrt((rest * rest).sum() / (len(y) - 2) / (x * x).sum()))
    rise = slope * (len(y) - 1)
    if error <= 1e-12 * max(abs(slope), 1e-300):
        return Line(rise, 0.0 if slope > 0 else 1.0)
    return Line(rise, t_above(slope / error, len(y) - 2))


def in_flight(table: TraceTable, start_s: float, end_s: float, blocks: int) -> Floats:
    """Return how many requests were open, on average over each of so many equal parts of the time."""
    edges = np.linspace(start_s, end_s, blocks + 1)
    sent = ~np.isnan(table.sent_s)
    begun = table.sent_s[sent]
    ended = np.where(np.isnan(table.end_s[sent]), np.inf, table.end_s[sent])
    # time open before an edge, summed over requests; differences of it are the time open within a part
    open_s = np.array([np.clip(np.minimum(edge, ended) - begun, 0.0, None).sum() for edge in edges])
    return np.asarray(np.diff(open_s) / np.diff(edges))


def saturation(table: TraceTable, facts: RunFacts, replicates: Sequence[int]) -> str:
    """Return the sentence that says so with its evidence, or nothing."""
    if not replicates:
        return ""
    spans = [window(table, number) for number in replicates]
    start_s, end_s = min(span.start_s for span in spans), max(span.end_s for span in spans)
    if end_s <= start_s:
        return ""
    level = in_flight(table, start_s, end_s, BLOCKS)
    line = fit(level.tolist())
    arrived = sum(span.offered for span in spans)
    if line.p > P_TREND or line.rise < max(LEAST_GROWTH, LEAST_GROWTH_SHARE * arrived):
        return ""
    late = level[-1] - level[BLOCKS // 2 - 1]
    if level[-1] < LEAST_RATIO * level[0] or late < LEAST_LATE_SHARE * (level[-1] - level[0]):
        return ""
    return (
        f"The service does not keep up with {facts.asked.rate_rps:.4g} requests a second: requests in flight grew from "
        f"{level[0]:.0f} to {level[-1]:.0f} in {end_s - start_s:.0f} s while every request was sent on time."
    )
