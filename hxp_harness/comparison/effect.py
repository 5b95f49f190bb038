"""How much B differs from A in one figure, how sure that is, and what it is called. Pure.

Values come one a unit (a replicate, or a visit of a paired run) with two ends each, since an observed time is an
interval. A positive figure is compared by the ratio B/A on the logarithm, a share of requests by the difference. Units
that had the same arrivals and prompts (common random numbers) are compared pair by pair with Student's t; others with
Welch's, which supposes nothing of the spread.
"""

from __future__ import annotations

import enum
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from hxp_harness.gates.interval import ALPHA, holm, plain_interval

SHARE_MARGIN = 0.005  # of all requests: a smaller difference of a share is none
Ends = tuple[float, float]


class Change(enum.StrEnum):
    """What became of a figure."""

    REGRESSION = "REGRESSION"
    IMPROVEMENT = "IMPROVEMENT"
    SAME = "NO DIFFERENCE"  # none beyond the margin
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a target: its name, its unit, which way is better, and its values."""

    name: str
    unit: str
    better: str  # lower | higher
    values: tuple[Ends, ...]
    decides: bool = True  # a gate is on it; others are shown only

    @property
    def share(self) -> bool:
        return self.unit == "ratio"


@dataclass(frozen=True, slots=True)
class Effect:
    """The change from A to B: a ratio - 1, or a difference of shares. `low` and `high` are wrong in 1 of 100 each."""

    name: str
    unit: str
    better: str
    decides: bool
    a: float  # middle of A's values
    b: float
    change: float
    low: float
    high: float
    p_worse: float  # chance of such values if B were no worse
    p_better: float
    margin: float
    units: int
    paired: bool
    outcome: Change = Change.INCONCLUSIVE


def compare(a: Figure, b: Figure, *, margin: float, paired: bool) -> Effect | None:
    """Return the change of one figure; None where either has fewer than two values, or ones that are not finite."""
    pairs = min(len(a.values), len(b.values))
    own = (a.values[:pairs], b.values[:pairs]) if paired else (a.values, b.values)
    if min(map(len, own)) < 2 or not all(_usable(end, a.share) for side in own for pair in side for end in pair):
        return None
    mine, theirs = ([(_scaled(low, a.share), _scaled(high, a.share)) for low, high in side] for side in own)
    low, high, p_over, p_under = _paired(mine, theirs) if paired else _welch(mine, theirs)
    middle = _middle(theirs) - _middle(mine)
    higher_is_worse = a.better == "lower"
    return Effect(
        name=a.name,
        unit=a.unit,
        better=a.better,
        decides=a.decides and b.decides,
        a=_back(_middle(mine), a.share),
        b=_back(_middle(theirs), a.share),
        change=middle if a.share else math.expm1(middle),
        low=low if a.share else math.expm1(max(low, -700.0)),
        high=high if a.share else math.expm1(min(high, 700.0)),
        p_worse=p_over if higher_is_worse else p_under,
        p_better=p_under if higher_is_worse else p_over,
        margin=SHARE_MARGIN if a.share else margin,
        units=min(map(len, own)),
        paired=paired,
    )


def outcomes(effects: Sequence[Effect]) -> list[Change]:
    """Return what each change is called, so that all names together are wrong in at most 1 of 100 comparisons a side.

    Within the margin on both sides: no difference. Else worse or better where chance does not explain it (Holm).
    """
    worse = holm([one.p_worse for one in effects], ALPHA)
    better = holm([one.p_better for one in effects], ALPHA)
    return [_called(one, *found) for one, *found in zip(effects, worse, better, strict=True)]


def overall(effects: Sequence[Effect]) -> Change:
    """Return the answer over the figures that decide: one that is worse settles it, one that is open leaves it open."""
    found = {one.outcome for one in effects if one.decides}
    if Change.REGRESSION in found:
        return Change.REGRESSION
    if not found or Change.INCONCLUSIVE in found:
        return Change.INCONCLUSIVE
    return Change.IMPROVEMENT if Change.IMPROVEMENT in found else Change.SAME


def _called(effect: Effect, worse: bool, better: bool) -> Change:
    least = -effect.margin if effect.unit == "ratio" else 1 / (1 + effect.margin) - 1
    if least <= effect.low and effect.high <= effect.margin:
        return Change.SAME
    return Change.REGRESSION if worse else Change.IMPROVEMENT if better else Change.INCONCLUSIVE


def mean_of(values: Sequence[Ends], *, share: bool) -> Ends:
    """Return the mean of each end, of the logarithm where that is the scale; infinite where one value is."""
    if not all(_usable(end, share) for pair in values for end in pair):
        return math.inf, math.inf
    low, high = (math.fsum(_scaled(pair[side], share) for pair in values) / len(values) for side in (0, 1))
    return _back(low, share), _back(high, share)


def _usable(value: float, share: bool) -> bool:
    return math.isfinite(value) and (share or value > 0)


def _scaled(value: float, share: bool) -> float:
    return value if share else math.log(value)


def _back(value: float, share: bool) -> float:
    return value if share else math.exp(value)


def _middle(values: Sequence[Ends]) -> float:
    return math.fsum(high for _, high in values) / len(values)


def _paired(a: Sequence[Ends], b: Sequence[Ends]) -> tuple[float, float, float, float]:
    low = [theirs[0] - mine[1] for mine, theirs in zip(a, b, strict=True)]
    high = [theirs[1] - mine[0] for mine, theirs in zip(a, b, strict=True)]
    found = plain_interval(low, high, 0.0)
    return found.low, found.high, found.p_over, found.p_under


def _welch(a: Sequence[Ends], b: Sequence[Ends]) -> tuple[float, float, float, float]:
    """Take for each side the ends that are worse for it."""
    from scipy import stats  # half a second

    a_lo, a_hi, b_lo, b_hi = ([pair[side] for pair in values] for values in (a, b) for side in (0, 1))
    if all(len(set(values)) == 1 for values in (a_lo, a_hi, b_lo, b_hi)):  # all alike: as sure as readings can be
        low, high = b_lo[0] - a_hi[0], b_hi[0] - a_lo[0]
        return low, high, float(low <= 0), float(high >= 0)
    with warnings.catch_warnings():  # values alike to the last digit: surer than the digits allow, and near enough
        warnings.simplefilter("ignore", RuntimeWarning)
        over = stats.ttest_ind(b_lo, a_hi, equal_var=False, alternative="greater")
        under = stats.ttest_ind(b_hi, a_lo, equal_var=False, alternative="less")
    low = float(over.confidence_interval(1 - ALPHA).low)
    high = float(under.confidence_interval(1 - ALPHA).high)
    return low, high, float(over.pvalue), float(under.pvalue)
