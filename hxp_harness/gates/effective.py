"""How many independent requests a sample is worth. Pure: counts in, numbers out.

Requests of a batching server are slow together, so n of them say less than n independent ones. The sample is cut, in
order of time, into parts. If the counts of values over a threshold vary from part to part `design_effect` times as much
as independent requests would make them, n requests are worth n / design_effect (Kish 1965). Parts must be long against
the memory of the server: neighbouring parts that still resemble each other are joined, as in batch means for
simulations (Fishman 1978), and what likeness is left widens the variance as for an AR(1) process (Tafazzoli et al.
2011, "Skart"). The variance is itself an estimate, from few parts: its upper bound is used.

Clusters of a rare kind do not show where they are rare. So several thresholds are tried, and the worst counts: a level
that wanders shows at the median long before it shows at the p99.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hxp_harness.gates.tails import chi2_point, normal_point, t_point
from hxp_harness.metrics.definitions import Sample
from hxp_harness.metrics.summary import percentile

Floats = NDArray[np.float64]

PARTS = 64
LEAST_PARTS = 8
LIKENESS = 1.28  # standard errors of a lag-1 correlation above which parts are joined: 10 of 100 by accident
NOTHING_ESTIMATED = 1_000_000  # degrees of freedom of a sample that is all alike
UNDERRATED = 0.2  # chance that the upper bound of the variance is too low


@dataclass(frozen=True, slots=True)
class Effective:
    """`n` values are worth n / design_effect independent ones; `freedom` says how well that is known."""

    n: int
    design_effect: float = 1.0  # at least 1
    freedom: int = PARTS - 1

    def size(self, alpha: float) -> float:
        """Return the number to count with for a bound that errs with chance `alpha` (Korn and Graubard 1998)."""
        return self.n / self.design_effect * (normal_point(alpha) / t_point(alpha, self.freedom)) ** 2

    def times(self, factor: float) -> Effective:
        """Return the same for a run so many times as long."""
        return Effective(round(self.n * factor), self.design_effect, max(round(self.freedom * factor), 1))


def effective(counts: Floats, sizes: Floats) -> Effective:
    """Return the worst over thresholds; `counts` has a row for each, a column a part of so many values (`sizes`)."""
    n = int(sizes.sum())
    found = [_of_one(row, sizes, n) for row in counts]
    return min(found, key=lambda one: one.size(0.01), default=Effective(n))


def _of_one(counts: Floats, sizes: Floats, n: int) -> Effective:
    share = counts.sum() / max(n, 1)
    if len(counts) < 2 or not 0.0 < share < 1.0:
        return Effective(n, freedom=NOTHING_ESTIMATED)
    while True:
        parts = len(counts)
        rest = counts - sizes * share
        squares = float((rest * rest).sum())
        likeness = float((rest[1:] * rest[:-1]).sum()) / squares if squares else 0.0
        if likeness < LIKENESS / np.sqrt(parts) or parts < 2 * LEAST_PARTS:
            break
        counts, sizes = _joined(counts), _joined(sizes)
    likeness = min(max(likeness, 0.0), 0.9)
    freedom = parts - 1
    effect = float((rest * rest / (sizes * share * (1 - share))).sum()) / chi2_point(UNDERRATED, freedom)
    return Effective(n, max(effect * (1 + likeness) / (1 - likeness), 1.0), freedom)


def _joined(values: Floats) -> Floats:
    """Return sums of neighbours; an odd one at the end joins the last pair."""
    pairs = len(values) // 2
    sums = values[: 2 * pairs].reshape(pairs, 2).sum(axis=1)
    sums[-1] += values[2 * pairs :].sum()
    return np.asarray(sums)


def thresholds(pooled: Sample, q: float) -> list[float]:
    """Return values to cut at: some that many requests exceed, the q-quantile, and some that few do."""
    shares = sorted({*(share for share in (0.5, 0.75, 0.9, 0.95) if share < q), q, (1 + q) / 2, 0.75 + q / 4})
    return [percentile(pooled.hi, share, pooled.infinite) for share in shares]


def counts_over(parts: Sequence[Sample], cuts: Sequence[float]) -> tuple[Floats, Floats]:
    """Return how many values of each part lie over each cut, and how many values the parts have."""
    some = [part for part in parts if part.n]
    over = [[int((part.hi > cut).sum()) + part.infinite * np.isfinite(cut) for part in some] for cut in cuts]
    return np.array(over, np.float64).reshape(len(cuts), len(some)), np.array([part.n for part in some], np.float64)
