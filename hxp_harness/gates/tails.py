"""The tails of Student's t and of the binomial, in the words of the judge; the numerics are scipy's."""

from __future__ import annotations

from scipy import special


def t_above(t: float, freedom: float) -> float:
    """Return the chance that Student's t with so many degrees of freedom lies above `t`."""
    return float(special.stdtr(freedom, -t))


def t_point(alpha: float, freedom: float) -> float:
    """Return the point above which Student's t lies with chance `alpha` (0 < alpha < 0.5)."""
    return -float(special.stdtrit(freedom, alpha))


def share_above(count: float, total: float, alpha: float) -> float:
    """Return the largest share that gives `count` or fewer of `total` with chance `alpha` (Clopper-Pearson 1934)."""
    return 1.0 if count >= total else float(special.betaincinv(count + 1, total - count, 1 - alpha))


def share_below(count: float, total: float, alpha: float) -> float:
    """Return the smallest share that gives `count` or more of `total` with chance `alpha` (Clopper-Pearson 1934)."""
    return 0.0 if count <= 0 else float(special.betaincinv(count, total - count + 1, alpha))


def binomial_at_least(count: float, total: float, share: float) -> float:
    """Return the chance of `count` or more of `total` when each comes with chance `share`; `count` may be broken."""
    return 1.0 if count <= 0 else float(special.betainc(count, total - count + 1, share))
