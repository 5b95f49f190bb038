"""A change is called what it is: sure of being worse, better or nothing, else open."""

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hxp_harness.comparison.effect import Change, Effect, Ends, Figure, compare, mean_of, outcomes, overall
from hxp_harness.comparison.record import effects_of

UNITS = 8


def figure(values: list[float], name: str = "e2e p95", better: str = "lower", unit: str = "s") -> Figure:
    return Figure(name, unit, better, tuple((value, value) for value in values))


def noisy(seed: int, level: float, spread: float, common: float = 0.0) -> list[float]:
    """Values of units that share a part (`common`) with others of the same seed pair."""
    shared, own = random.Random(seed // 2), random.Random(seed)
    return [level * math.exp(shared.gauss(0, common) + own.gauss(0, spread)) for _ in range(UNITS)]


def called(a: Figure, b: Figure, *, paired: bool = True, margin: float = 0.05) -> Effect:
    (found,) = effects_of({"x": a}, {"x": b}, margin=margin, paired=paired)
    return found


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize(
    ("ratio", "better", "outcome"),
    [
        (1.3, "lower", Change.REGRESSION),
        (0.7, "lower", Change.IMPROVEMENT),
        (1.3, "higher", Change.IMPROVEMENT),
        (0.7, "higher", Change.REGRESSION),
        (1.0, "lower", Change.SAME),
    ],
)
def test_a_clear_change_is_called_so(paired: bool, ratio: float, better: str, outcome: Change) -> None:
    """A third more latency is a regression, a third more throughput an improvement; a thousandth of noise is none."""
    a, b = figure(noisy(1, 1.0, 0.01), better=better), figure(noisy(4, ratio, 0.01), better=better)
    found = called(a, b, paired=paired)

    assert found.outcome is outcome
    assert found.low < ratio - 1 < found.high
    assert found.a == pytest.approx(1.0, rel=0.02)


def test_much_noise_leaves_it_open() -> None:
    """With a spread of half the value nothing is called on eight units."""
    assert called(figure(noisy(1, 1.0, 0.5)), figure(noisy(4, 1.1, 0.5))).outcome is Change.INCONCLUSIVE


def test_common_noise_falls_out_of_pairs() -> None:
    """What both of a pair share cannot hide a change of 3 % from pairs, and does hide it from groups."""
    a, b = figure(noisy(2, 1.0, 0.002, common=0.3)), figure(noisy(3, 1.03, 0.002, common=0.3))

    assert called(a, b, margin=0.01).outcome is Change.REGRESSION
    assert called(a, b, margin=0.01, paired=False).outcome is Change.INCONCLUSIVE


@pytest.mark.parametrize("paired", [True, False])
def test_no_change_is_seldom_called_one(paired: bool) -> None:
    """Of 1,000 comparisons of a thing with itself about 1 of 100 each side names a change, luck allowed for."""
    found = [
        called(figure(noisy(4 * seed, 1.0, 0.1)), figure(noisy(4 * seed + 2, 1.0, 0.1)), paired=paired, margin=0.001)
        for seed in range(1000)
    ]
    names = [one.outcome for one in found]

    assert names.count(Change.REGRESSION) <= 20
    assert names.count(Change.IMPROVEMENT) <= 20
    assert sum(one.low <= 0 <= one.high for one in found) >= 960


def test_a_share_is_compared_by_its_difference() -> None:
    """No errors on both sides is no difference; one in ten more is a regression, though zero has no logarithm."""
    none = figure([0.0] * UNITS, "error_rate", unit="ratio")
    many = figure([0.1, 0.11, 0.09, 0.1, 0.12, 0.1, 0.1, 0.09], "error_rate", unit="ratio")

    assert called(none, none).outcome is Change.SAME
    assert called(none, many).outcome is Change.REGRESSION
    assert called(many, none, paired=False).outcome is Change.IMPROVEMENT
    assert called(none, none, paired=False).outcome is Change.SAME


@given(st.lists(st.floats(0.5, 2.0), min_size=3, max_size=9), st.floats(0, 0.3))
def test_what_is_known_within_bounds_only_is_called_no_surer(values: list[float], width: float) -> None:
    """Observations that are intervals widen the answer on both sides, in pairs and in groups."""
    points, wide = figure(values), replace(figure(values), values=tuple((v, v * (1 + width)) for v in values))
    for paired in (True, False):
        sharp, vague = (compare(points, other, margin=0.05, paired=paired) for other in (points, wide))
        assert sharp is not None
        assert vague is not None
        assert vague.high >= sharp.high - 1e-9
        assert vague.low <= sharp.low + 1e-9 + width


@pytest.mark.parametrize("values", [[1.0], [], [1.0, math.inf], [0.0, 1.0]])
def test_what_has_no_finite_values_is_not_compared(values: list[float]) -> None:
    """Fewer than two values, infinite ones and zero latencies have no ratio."""
    assert compare(figure(values), figure([1.0, 1.0]), margin=0.05, paired=False) is None


def test_a_visit_is_the_mean_of_its_replicates() -> None:
    """Of latencies the geometric mean of each end, of shares the plain one; one infinite end makes all of it so."""
    pairs: list[Ends] = [(1.0, 2.0), (4.0, 8.0)]

    assert mean_of(pairs, share=False) == pytest.approx((2.0, 4.0))
    assert mean_of([(0.0, 0.1), (0.2, 0.3)], share=True) == pytest.approx((0.1, 0.2))
    assert mean_of([(1.0, math.inf)], share=False) == (math.inf, math.inf)


def test_one_worse_figure_settles_the_answer() -> None:
    """Over the deciding figures: worse before open before better before the same; others do not count."""
    base = called(figure([1.0] * 4), figure([1.0] * 4))
    same, worse, better, unclear = (
        replace(base, outcome=change)
        for change in (Change.SAME, Change.REGRESSION, Change.IMPROVEMENT, Change.INCONCLUSIVE)
    )

    assert overall([same, better, unclear, worse]) is Change.REGRESSION
    assert overall([same, better, unclear]) is Change.INCONCLUSIVE
    assert overall([same, better]) is Change.IMPROVEMENT
    assert overall([same, replace(worse, decides=False)]) is Change.SAME
    assert overall([]) is overall([replace(worse, decides=False)]) is Change.INCONCLUSIVE
    assert outcomes([]) == []
