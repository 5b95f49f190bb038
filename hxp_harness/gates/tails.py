"""The tails of Student's t, the binomial and others, in the words of the judge; the numerics are scipy's."""

from __future__ import annotations

import functools
from collections.abc import Callable

from scipy import special


def t_above(t: float, freedom: float) -> float:
    """Return the chance that Student's t with so many degrees of freedom lies above `t`."""
    return float(special.stdtr(freedom, -t))


def t_point(alpha: float, freedom: float) -> float:
    """Return the point above which Student's t lies with chance `alpha` (0 < alpha < 0.5)."""
    return -float(special.stdtrit(freedom, alpha))


def normal_point(alpha: float) -> float:
    """Return the point above which a standard normal lies with chance `alpha`."""
    return -float(special.ndtri(alpha))


def chi2_point(alpha: float, freedom: float) -> float:
    """Return the point below which chi-square with so many degrees of freedom lies with chance `alpha`."""
    return float(special.chdtri(freedom, 1 - alpha))


def share_above(count: float, total: float, alpha: float) -> float:
    """Return the largest share that gives `count` or fewer of `total` with chance `alpha` (Clopper-Pearson 1934)."""
    return 1.0 if count >= total else float(special.betaincinv(count + 1, total - count, 1 - alpha))


def share_below(count: float, total: float, alpha: float) -> float:
    """Return the smallest share that gives `count` or more of `total` with chance `alpha` (Clopper-Pearson 1934)."""
    return 0.0 if count <= 0 else float(special.betaincinv(count, total - count + 1, alpha))


@functools.lru_cache(256)  # the same for every limit on one sample
def most_seen(share: float, total: float, alpha: float) -> float:
    """Return the largest part of `total` that may be seen while `share_above` stays within `share`; below 0: none."""
    if share_above(0.0, total, alpha) > share:
        return -1.0
    return _bisect(lambda part: share_above(part * total, total, alpha) <= share, 0.0, share)


@functools.lru_cache(256)
def least_seen(share: float, total: float, alpha: float) -> float:
    """Return the smallest part of `total` that must be seen for `share_below` to reach `share`; above 1: none."""
    if share_below(total, total, alpha) < share:
        return 2.0
    return _bisect(lambda part: share_below(part * total, total, alpha) < share, share, 1.0)


def _bisect(holds: Callable[[float], bool], low: float, high: float) -> float:
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def binomial_at_least(count: float, total: float, share: float) -> float:
    """Return the chance of `count` or more of `total` when each comes with chance `share`; `count` may be broken."""
    return 1.0 if count <= 0 else float(special.betainc(count, total - count + 1, share))
