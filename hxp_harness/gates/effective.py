"""How many independent requests a sample is worth. Pure: counts in, numbers out.

Requests of a batching server are slow together, so n of them say less than n independent ones. The sample is cut, in
order of time, into parts. If the counts of values over a threshold vary from part to part `design_effect` times as much
as independent requests would make them, n requests are worth n / design_effect (Kish 1965). Parts must be long against
the memory of the server: neighbouring parts that still resemble each other are joined, as in batch means for
simulations (Fishman 1978), and what likeness is left widens the variance as for an AR(1) process (Tafazzoli et al.
2011, "Skart"). The variance is itself an estimate, from few parts: its upper bound is used.

Clusters of a rare kind do not show where they are rare. So several thresholds are tried, and the worst counts: a level
that wanders shows at the median long before it shows at the p99. Once EVENTS independent excesses were seen, they speak
for themselves, and thresholds below the quantile are left out.

To plan a longer run another number is wanted, `Ahead`: how much its requests will be worth, with assurance. A run that
is short against the memory of the server makes neighbours look unlike (the bias of a lag-1 correlation, Kendall 1954)
and misses a part of the variance; and an estimate of variance that rests on a few excesses is known as badly as one
from as many degrees of freedom. So the upper bound of the variance is planned with (Browne 1995; Kieser and Wassmer
1996).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hxp_harness.gates.tails import chi2_point, normal_point, t_point
from hxp_harness.metrics.definitions import Sample
from hxp_harness.metrics.summary import percentiles

Floats = NDArray[np.float64]

PARTS = 64
LEAST_PARTS = 8
IN_FLIGHT_A_PART = 2  # so many times the requests in flight, at least
LIKENESS = 1.28  # standard errors of a lag-1 correlation above which parts are joined: 10 of 100 by accident
NOTHING_ESTIMATED = 1_000_000  # degrees of freedom of a sample that is all alike
UNDERRATED = 0.2  # chance that the upper bound of the variance is too low
UNASSURED = 0.1  # the same of the one that is planned with
LOWER = (0.5, 0.75, 0.9, 0.95)  # shares of requests at which a wandering level shows
EVENTS = 30.0  # independent excesses over the quantile that say enough of how excesses cluster
LEAST_KNOWN = 1.5  # degrees of freedom to plan with
PLANNED_PARTS = PARTS // 2  # what a longer run is planned with: its neighbours may have to be joined once


def cuts_of(replicates: int, requests: int, in_flight: float) -> int:
    """Return into how many parts each of so many replicates is cut: PARTS in all, fewer where they were too short.

    Requests in flight together are slow together: a part holds twice as many, where that leaves parts enough to join.
    """
    most = int(replicates * requests / (IN_FLIGHT_A_PART * max(in_flight, 1.0)))
    return max(min(PARTS, max(most, 2 * LEAST_PARTS)) // replicates, 1)


def long_enough(requests: int, in_flight: float) -> bool:
    """Whether so many requests can be cut into parts that are long against those in flight, and joined once."""
    return requests >= 2 * LEAST_PARTS * IN_FLIGHT_A_PART * in_flight


@dataclass(frozen=True, slots=True)
class Ahead:
    """Design effects to plan a longer run with: `own` of the excesses over the quantile, `worst` of any threshold.

    `rarity` is the share of requests that the gate is about: 1 - q of a percentile.
    """

    own: float = 1.0
    worst: float = 1.0
    rarity: float = 1.0
    excesses: float = math.inf  # how many independent ones over the quantile were seen

    def design_effect(self, n: int) -> float:
        """Return the one that will count in a run of `n` values, and in half of it."""
        return self.own if n * self.rarity / self.own >= 2 * EVENTS else max(self.own, self.worst)


@dataclass(frozen=True, slots=True)
class Effective:
    """`n` values are worth n / design_effect independent ones; `freedom` says how well that is known."""

    n: int
    design_effect: float = 1.0  # at least 1
    freedom: int = PARTS - 1
    ahead: Ahead | None = None  # None: the design effect itself is planned with

    def size(self, alpha: float) -> float:
        """Return the number to count with for a bound that errs with chance `alpha` (Korn and Graubard 1998)."""
        return self.n / self.design_effect * (normal_point(alpha) / t_point(alpha, self.freedom)) ** 2

    def planned(self, factor: float) -> Effective:
        """Return what a run so many times as long is surely worth."""
        n = round(self.n * factor)
        effect = self.ahead.design_effect(n) if self.ahead else self.design_effect
        return Effective(n, effect, max(self.freedom, PLANNED_PARTS - 1))


def effective(counts: Floats, sizes: Floats, *, below: int = 0, rarity: float = 1.0) -> Effective:
    """Return the worst over thresholds; `counts` has a row for each, a column a part of so many values (`sizes`).

    The first `below` thresholds lie below the quantile, which a share `rarity` of the values exceeds.
    """
    n = int(sizes.sum())
    found = [_of_one(row, sizes, n) for row in counts]
    if not found:
        return Effective(n)
    own, every = (min(some, key=lambda one: one.size(0.01)) for some in (found[below:], found))
    ahead = [one.ahead.own for one in found if one.ahead]
    # Where many values are the quantile itself fewer exceed it, or none: they say nothing of how excesses cluster.
    over = float(counts[below].sum()) if below else n * rarity
    worth = own if over / own.design_effect >= EVENTS else every
    seen = over / found[below].design_effect
    planned = Ahead(max(ahead[below:], default=1.0), max(ahead, default=1.0), rarity, seen)
    return Effective(n, worth.design_effect, worth.freedom, planned)


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
    freedom = parts - 1
    scaled = float((rest * rest / (sizes * share * (1 - share))).sum())
    effect = scaled / chi2_point(UNDERRATED, freedom) * _widened(likeness)
    return Effective(n, max(effect, 1.0), freedom, Ahead(_ahead(scaled, likeness, parts, n * min(share, 1 - share))))


def _widened(likeness: float) -> float:
    """Return by what the variance of a sum exceeds that of unlike parts, for an AR(1) process."""
    likeness = min(max(likeness, 0.0), 0.9)
    return (1 + likeness) / (1 - likeness)


def _ahead(scaled: float, likeness: float, parts: int, excesses: float) -> float:
    """Return the design effect to plan with: biases mended, and as sure as so many `excesses` allow."""
    widened = _widened(likeness + (1 + 3 * max(likeness, 0.0)) / parts)
    effect = max(scaled / (parts - 1) * widened / (1 - min(widened / parts, 0.5)), 1.0)
    known = min(max(excesses / effect, LEAST_KNOWN), parts - 1)
    surely = known / chi2_point(UNASSURED, known)
    return effect * surely * (PLANNED_PARTS - 1) / chi2_point(UNDERRATED, PLANNED_PARTS - 1)


def _joined(values: Floats) -> Floats:
    """Return sums of neighbours; an odd one at the end joins the last pair."""
    pairs = len(values) // 2
    sums = values[: 2 * pairs].reshape(pairs, 2).sum(axis=1)
    sums[-1] += values[2 * pairs :].sum()
    return np.asarray(sums)


def thresholds(pooled: Sample, q: float) -> tuple[list[float], list[float]]:
    """Return values to cut at: some that many requests exceed, then the q-quantile and some that few do."""
    groups = [share for share in LOWER if share < q], [q, (1 + q) / 2, 0.75 + q / 4]
    found = percentiles(pooled.hi, [*groups[0], *groups[1]], pooled.infinite)
    return found[: len(groups[0])], found[len(groups[0]) :]


def counts_over(parts: Sequence[Sample], cuts: Sequence[float]) -> tuple[Floats, Floats]:
    """Return how many values of each part lie over each cut, and how many values the parts have."""
    some = [part for part in parts if part.n]
    over = [[int(np.count_nonzero(part.hi > cut)) + part.infinite * np.isfinite(cut) for cut in cuts] for part in some]
    return np.array(over, np.float64).reshape(len(some), len(cuts)).T, np.array([part.n for part in some], np.float64)
