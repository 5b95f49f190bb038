"""The incomplete beta function, and from it what the judge needs: Student's t and the binomial tails.

scipy.special has all of it, and the tests compare with it; importing it costs 0.35 s and 30 MB, which re-judging a
stored run within a second and 200 MB does not have.
"""

from __future__ import annotations

import functools
import math

_TINY = 1e-300
_CLOSE = 1e-15
_MOST_STEPS = 100_000  # it takes about the square root of a + b
_MOST_HALVINGS = 400


@functools.lru_cache(4096)
def betainc(a: float, b: float, x: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b) for a, b > 0 and 0 <= x <= 1.

    Continued fraction by Lentz's method (Abramowitz and Stegun 26.5.8), on the side where it converges fast.
    """
    if x <= 0.0 or x >= 1.0:
        return min(max(x, 0.0), 1.0)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x > (a + 1.0) / (a + b + 2.0):
        return 1.0 - front / b * _fraction(b, a, 1.0 - x)
    return front / a * _fraction(a, b, x)


def _fraction(a: float, b: float, x: float) -> float:
    value, upper, lower = 1.0, 1.0, 0.0
    for step in range(1, _MOST_STEPS):
        m = step // 2
        if step % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        lower = 1.0 / _not_zero(1.0 + term * lower)
        upper = _not_zero(1.0 + term / upper)
        value *= upper * lower
        if abs(upper * lower - 1.0) < _CLOSE:
            break
    return 1.0 / value


def _not_zero(number: float) -> float:
    return number if abs(number) > _TINY else _TINY


@functools.lru_cache(1024)
def betaincinv(a: float, b: float, p: float) -> float:
    """Return x with I_x(a, b) = p, by halving; right to about 1e-13 of its size."""
    low, high = 0.0, 1.0
    for _ in range(_MOST_HALVINGS):
        if high - low <= 1e-13 * high:
            break
        middle = (low + high) / 2
        if betainc(a, b, middle) < p:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def t_above(t: float, freedom: float) -> float:
    """Return the chance that Student's t with so many degrees of freedom lies above `t`."""
    tail = 0.5 * betainc(freedom / 2, 0.5, freedom / (freedom + t * t))
    return tail if t >= 0 else 1.0 - tail


def t_point(alpha: float, freedom: float) -> float:
    """Return the point above which Student's t lies with chance `alpha` (0 < alpha < 0.5)."""
    x = betaincinv(freedom / 2, 0.5, 2 * alpha)
    return math.sqrt(freedom * (1 - x) / x)


def share_above(count: float, total: float, alpha: float) -> float:
    """Return the largest share that gives `count` or fewer of `total` with chance `alpha` (Clopper-Pearson)."""
    return 1.0 if count >= total else betaincinv(count + 1, total - count, 1 - alpha)


def share_below(count: float, total: float, alpha: float) -> float:
    """Return the smallest share that gives `count` or more of `total` with chance `alpha` (Clopper-Pearson)."""
    return 0.0 if count <= 0 else betaincinv(count, total - count + 1, alpha)


def binomial_at_least(count: float, total: float, share: float) -> float:
    """Return the chance of `count` or more of `total` when each comes with chance `share`."""
    return 1.0 if count <= 0 else betainc(count, total - count + 1, share)
