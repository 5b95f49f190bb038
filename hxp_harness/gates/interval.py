"""Bounds of a true value from replicates, and how surely it lies beyond a limit. Pure: numbers in, numbers out.

Requests within a replicate are not independent (a batching server makes them wait together), replicates nearly are.
So the spread between replicates, not the number of requests, says how sure a number is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hxp_harness.gates.tails import binomial_at_least, share_above, share_below, t_above, t_point

ALPHA = 0.01  # chance of each bound to lie on the wrong side of the true value
POWER_ALPHA = 0.2  # what a run could have seen: in 80 of 100 such runs
CAP = 10.0  # for showing that a limit is broken, anything beyond this many limits counts as this many
_RESOLVED = 1e-6  # the logarithm is used above this; below lie times that no clock here resolves


@dataclass(frozen=True, slots=True)
class Interval:
    """Bounds of the true value, each wrong with chance ALPHA; an infinite bound says that nothing is known.

    `p_over` is the chance of such readings if the true value were at the limit or below, `p_under` if at or above.
    `spread` is the standard error on the scale used, `log` whether that scale is the logarithm.
    """

    low: float
    high: float
    p_over: float
    p_under: float
    spread: float
    log: bool = False


@dataclass(frozen=True, slots=True)
class _Bounded:
    """Student's t over replicates on one scale."""

    mean: float
    error: float  # standard error of the mean
    freedom: int

    @classmethod
    def of(cls, values: Sequence[float]) -> _Bounded:
        n = len(values)
        if n < 2 or not all(math.isfinite(value) for value in values):
            return cls(math.fsum(values) / n if n else math.nan, math.inf, 1)
        mean = math.fsum(values) / n
        variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
        return cls(mean, math.sqrt(variance / n), n - 1)

    def above(self, alpha: float = ALPHA) -> float:
        return math.inf if math.isinf(self.error) else self.mean + t_point(alpha, self.freedom) * self.error

    def below(self, alpha: float = ALPHA) -> float:
        return -math.inf if math.isinf(self.error) else self.mean - t_point(alpha, self.freedom) * self.error

    def p_over(self, limit: float) -> float:
        """Return the chance of such a mean or a larger one if the true one were `limit`."""
        if math.isinf(self.error):
            return 1.0
        if self.error == 0.0:  # all alike: as sure as readings can be
            return 0.0 if self.mean > limit else 1.0
        return t_above((self.mean - limit) / self.error, self.freedom)


def positive_interval(lo: Sequence[float], hi: Sequence[float], limit: float) -> Interval:
    """Bound a positive statistic (a latency) by Student's t on its logarithm, as replicates spread by a factor.

    `lo` and `hi` are the bounds of the statistic in each replicate; each side uses the end that is worse for it.
    An infinite upper end (more failures than the percentile forgives) leaves no upper bound. For the lower side a
    value counts as at most CAP limits, so that a replicate of nothing but failures is evidence, and finite.
    """
    capped = [min(value, CAP * limit) for value in lo]
    if min((*capped, *hi), default=0.0) <= _RESOLVED:
        return plain_interval(capped, hi, limit)
    low = _Bounded.of([math.log(value) for value in capped])
    high = _Bounded.of([math.log(value) for value in hi])
    return Interval(
        low=math.exp(low.below()),
        high=math.exp(high.above()) if math.isfinite(high.above()) else math.inf,
        p_over=low.p_over(math.log(limit)),
        p_under=_mirrored(high, math.log(limit)),
        spread=max(low.error, high.error),
        log=True,
    )


def plain_interval(lo: Sequence[float], hi: Sequence[float], limit: float) -> Interval:
    """Bound a mean of many things (a rate, a mean length) by Student's t over replicates."""
    low, high = _Bounded.of(lo), _Bounded.of(hi)
    spread = max(low.error, high.error)
    return Interval(low.below(), high.above(), low.p_over(limit), _mirrored(high, limit), spread)


def _mirrored(bounded: _Bounded, limit: float) -> float:
    return _Bounded(-bounded.mean, bounded.error, bounded.freedom).p_over(-limit)


def share_interval(lo: Sequence[float], hi: Sequence[float], n: Sequence[int], limit: float) -> Interval:
    """Bound a share of requests: `lo` and `hi` are counts in each replicate of `n` requests.

    Several answers, of which the widest counts. Clopper-Pearson on all requests together is exact if they are
    independent. Bad requests come in clusters, though: so it is also taken with as many fewer requests as the counts
    spread more than independent ones would, and beside it Student's t over replicates, plain and on the logarithm,
    since counts of clusters lean to the right. What no method can see is a cluster so rare that none has come yet.
    """
    total, few, many = sum(n), math.fsum(lo), math.fsum(hi)
    low = _Bounded.of([count / size for count, size in zip(lo, n, strict=True)])
    high = _Bounded.of([count / size for count, size in zip(hi, n, strict=True)])
    factor = _Bounded.of([math.log((count + 0.5) / size) for count, size in zip(hi, n, strict=True)]).above()
    low_by, high_by = _dispersion(lo, n), _dispersion(hi, n)
    above = [share_above(many / by, total / by, ALPHA) for by in {1.0, high_by}]
    below = [share_below(few / by, total / by, ALPHA) for by in {1.0, low_by}]
    over = [binomial_at_least(few / by, total / by, limit) for by in {1.0, low_by}]
    under = [binomial_at_least((total - many) / by, total / by, 1 - limit) for by in {1.0, high_by}]
    return Interval(
        low=max(min(low.below(), *below), 0.0),
        high=min(max(high.above(), math.exp(min(factor, 0.0)), *above), 1.0),
        p_over=max(low.p_over(limit), *over),
        p_under=max(_mirrored(high, limit), *under),
        spread=max(low.error, high.error),
    )


def _dispersion(counts: Sequence[float], n: Sequence[int]) -> float:
    """Return how much more counts vary between replicates than independent requests would make them; at least 1."""
    share = math.fsum(counts) / sum(n) if n else 0.0
    if len(counts) < 2 or not 0.0 < share < 1.0:
        return 1.0
    squares = (
        (count - size * share) ** 2 / (size * share * (1 - share)) for count, size in zip(counts, n, strict=True)
    )
    return max(math.fsum(squares) / (len(counts) - 1), 1.0)


def holm(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Return which hypotheses fall when all of them together may err with chance `alpha` (Holm 1979)."""
    fallen = [False] * len(p_values)
    for place, number in enumerate(sorted(range(len(p_values)), key=lambda item: p_values[item])):
        if p_values[number] > alpha / (len(p_values) - place):
            break
        fallen[number] = True
    return fallen
