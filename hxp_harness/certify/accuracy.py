"""How far what a client observed lies from the truth, metric by metric. Times are intervals on both sides."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hxp_harness.certify.truth import Truth
from hxp_harness.trace import Trace

Seconds = NDArray[np.float64]
QUANTILES = (0.50, 0.95, 0.99)
_TWO_CLOCKS = {"ttft", "e2e"}  # from the client's t0 to the golden server's log


class Intervals(NamedTuple):
    """Values that are each known to lie between `lo` and `hi`, in seconds."""

    lo: Seconds
    hi: Seconds

    @property
    def middle(self) -> Seconds:
        return (self.lo + self.hi) / 2

    def widened(self, by_s: float) -> Intervals:
        """Return the intervals with both ends so much further out."""
        return Intervals(self.lo - by_s, self.hi + by_s)

    def distance(self, other: Intervals) -> Seconds:
        """Return the gap between each interval and its counterpart; 0 where they touch."""
        gap = np.maximum(self.lo - other.hi, other.lo - self.hi)
        return np.maximum(gap, 0.0)

    def quantile(self, q: float) -> Intervals:
        """Return the order statistic of both ends."""
        rank = max(math.ceil(q * len(self.lo)), 1) - 1
        return Intervals(*(np.partition(end, rank)[rank : rank + 1] for end in self))


class Pair(NamedTuple):
    """One request as the client observed it and as the golden server knows it; token times since the run's t0."""

    trace: Trace
    observed: Intervals
    true: Intervals
    arrived_s: float


@dataclass(frozen=True, slots=True)
class MetricError:
    """Errors of one metric in seconds. What an interval covers is uncertainty (`width`), not error."""

    metric: str
    n: int
    bias_mean_s: float  # middle of the observed minus middle of the true interval
    spread_s: float  # standard deviation of the same
    p50_s: float  # of the distance between both intervals
    p99_s: float
    max_s: float
    width_p99_s: float  # of the observed interval
    p50_statistic_s: float  # distance of the metric's own p50, p95, p99
    p95_statistic_s: float
    p99_statistic_s: float

    @property
    def worst_s(self) -> float:
        """What the bound applies to."""
        return max(self.p99_s, self.p50_statistic_s, self.p95_statistic_s, self.p99_statistic_s)


def pair(trace: Trace, truth: Truth, t0_s: float) -> Pair | None:
    """Return both sides on the run's clock, or None when they do not tell of equally many tokens."""
    events = [(event.lo_s - t0_s, event.hi_s - t0_s) for event in truth.events]
    tokens = [times for times, event in zip(events, truth.events, strict=True) for _ in range(event.tokens)]
    told = len(trace.token_lo_s)
    times = events if told == len(events) else tokens  # a client may count chunks or tokens
    if told != len(times) or not times:
        return None
    true = np.array(times)
    observed = Intervals(np.array(trace.token_lo_s), np.array(trace.token_hi_s))
    return Pair(trace, observed, Intervals(true[:, 0], true[:, 1]), truth.arrived_s - t0_s)


def metric_errors(pairs: Sequence[Pair], apart_s: float = 0.0) -> dict[str, MetricError]:
    """Return the error of every metric that `pairs` (at least one) allow, and of the time of sending.

    Where client and golden server have clocks of their own, these are known to within `apart_s` of each other, and
    intervals from one clock to the other are so much wider; gaps between tokens are times of one clock.
    """
    observed, true = _values(pairs, "observed"), _values(pairs, "true")
    errors = {
        name: _error(name, observed[name].widened(apart_s if name in _TWO_CLOCKS else 0.0), true[name])
        for name in observed
        if len(observed[name].lo)
    }
    sent = np.array([each.trace.sent_s or 0.0 for each in pairs])
    arrived = np.array([each.arrived_s for each in pairs])
    return errors | {"sent": _error("sent", Intervals(sent, sent).widened(apart_s), Intervals(arrived, arrived))}


def _values(pairs: Sequence[Pair], side: str) -> Mapping[str, Intervals]:
    """Return ttft, e2e, itl and tpot of one side; the definitions are MEASUREMENT's, on intervals."""
    ttft, e2e, itl, tpot = [], [], [], []
    for each in pairs:
        lo, hi = each.observed if side == "observed" else each.true
        intended_s = each.trace.intended_s
        ttft.append((lo[0] - intended_s, hi[0] - intended_s))
        e2e.append((lo[-1] - intended_s, hi[-1] - intended_s))
        if len(lo) > 1:
            itl.append(np.stack((lo[1:] - hi[:-1], hi[1:] - lo[:-1]), axis=1))
            tpot.append(((lo[-1] - hi[0]) / (len(lo) - 1), (hi[-1] - lo[0]) / (len(lo) - 1)))
    return {
        "ttft": _intervals(np.array(ttft)),
        "e2e": _intervals(np.array(e2e)),
        "itl": _intervals(np.concatenate(itl) if itl else np.empty((0, 2))),
        "tpot": _intervals(np.array(tpot) if tpot else np.empty((0, 2))),
    }


def _intervals(rows: Seconds) -> Intervals:
    return Intervals(rows[:, 0], rows[:, 1])


def _error(metric: str, observed: Intervals, true: Intervals) -> MetricError:
    distance = observed.distance(true)
    off_s = observed.middle - true.middle
    statistics = [float(observed.quantile(q).distance(true.quantile(q))[0]) for q in QUANTILES]
    return MetricError(
        metric,
        len(distance),
        float(np.mean(off_s)),
        float(np.std(off_s)),
        _quantile(distance, 0.5),
        _quantile(distance, 0.99),
        float(distance.max()),
        _quantile(observed.hi - observed.lo, 0.99),
        *statistics,
    )


def _quantile(values: Seconds, q: float) -> float:
    return float(Intervals(values, values).quantile(q).lo[0])
