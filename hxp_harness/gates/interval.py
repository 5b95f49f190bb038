"""Bounds of a true mean or rate from replicates, and how surely it lies beyond a limit. Pure: numbers in, numbers out.

Requests within a replicate are not independent (a batching server makes them wait together), replicates nearly are.
So the spread between replicates, not the number of requests, says how sure a number is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hxp_harness.gates.tails import t_above, t_point

ALPHA = 0.01  # chance of each bound to lie on the wrong side of the true value
POWER_ALPHA = 0.2  # what a run could have seen: in 80 of 100 such runs
CAP = 10.0  # for showing that a limit is broken, anything beyond this many limits counts as this many
_RESOLVED = 1e-6  # the logarithm is used above this; below lie times that no clock here resolves


@dataclass(frozen=True, slots=True)
class Interval:
    """Bounds of the true value, each wrong with chance alpha; an infinite bound says that nothing is known.

    `p_over` is the chance of such readings if the true value were at the limit or below, `p_under` if at or above.
    Where replicates are compared, `spread` is the standard error on the scale used, and `log` whether that scale is
    the logarithm.
    """

    low: float
    high: float
    p_over: float
    p_under: float
    spread: float = math.inf
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

    def above(self, alpha: float) -> float:
        return math.inf if math.isinf(self.error) else self.mean + t_point(alpha, self.freedom) * self.error

    def below(self, alpha: float) -> float:
        return -math.inf if math.isinf(self.error) else self.mean - t_point(alpha, self.freedom) * self.error

    def p_over(self, limit: float) -> float:
        """Return the chance of such a mean or a larger one if the true one were `limit`."""
        if math.isinf(self.error):
            return 1.0
        if self.error == 0.0:  # all alike: as sure as readings can be
            return 0.0 if self.mean > limit else 1.0
        return t_above((self.mean - limit) / self.error, self.freedom)


def positive_interval(lo: Sequence[float], hi: Sequence[float], limit: float, alpha: float = ALPHA) -> Interval:
    """Bound a positive statistic (a mean latency) by Student's t on its logarithm, as replicates spread by a factor.

    `lo` and `hi` are the bounds of the statistic in each replicate; each side uses the end that is worse for it.
    An infinite upper end (more failures than the percentile forgives) leaves no upper bound. For the lower side a
    value counts as at most CAP limits, so that a replicate of nothing but failures is evidence, and finite.
    """
    capped = [min(value, CAP * limit) for value in lo]
    if min((*capped, *hi), default=0.0) <= _RESOLVED:
        return plain_interval(capped, hi, limit, alpha)
    low = _Bounded.of([math.log(value) for value in capped])
    high = _Bounded.of([math.log(value) for value in hi])
    return Interval(
        low=math.exp(low.below(alpha)),
        high=math.exp(high.above(alpha)) if math.isfinite(high.above(alpha)) else math.inf,
        p_over=low.p_over(math.log(limit)),
        p_under=_mirrored(high, math.log(limit)),
        spread=max(low.error, high.error),
        log=True,
    )


def plain_interval(lo: Sequence[float], hi: Sequence[float], limit: float, alpha: float = ALPHA) -> Interval:
    """Bound a mean of many things (a rate, a mean length) by Student's t over replicates."""
    low, high = _Bounded.of(lo), _Bounded.of(hi)
    spread = max(low.error, high.error)
    return Interval(low.below(alpha), high.above(alpha), low.p_over(limit), _mirrored(high, limit), spread)


def _mirrored(bounded: _Bounded, limit: float) -> float:
    return _Bounded(-bounded.mean, bounded.error, bounded.freedom).p_over(-limit)


def holm(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Return which hypotheses fall when all of them together may err with chance `alpha` (Holm 1979)."""
    fallen = [False] * len(p_values)
    for place, number in enumerate(sorted(range(len(p_values)), key=lambda item: p_values[item])):
        if p_values[number] > alpha / (len(p_values) - place):
            break
        fallen[number] = True
    return fallen
