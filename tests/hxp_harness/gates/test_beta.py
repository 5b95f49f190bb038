"""The special functions agree with scipy's, which is too slow to import for the judge itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from hxp_harness.gates.beta import (
    betainc,
    betaincinv,
    binomial_at_least,
    share_above,
    share_below,
    t_above,
    t_point,
)

SHAPES = st.floats(0.5, 20_000)


@given(SHAPES, SHAPES, st.floats(0, 1))
def test_incomplete_beta(a: float, b: float, x: float) -> None:
    """I_x(a, b) is right to nine digits for all shapes that runs have."""
    assert betainc(a, b, x) == pytest.approx(special.betainc(a, b, x), abs=1e-9)


@given(SHAPES, SHAPES, st.floats(0, 1))
def test_incomplete_beta_about_its_middle(a: float, b: float, share: float) -> None:
    """It is right where it rises steeply too."""
    x = min(max(a / (a + b) + (share - 0.5) * 6 / (a + b) ** 0.5, 0.0), 1.0)

    assert betainc(a, b, x) == pytest.approx(special.betainc(a, b, x), abs=1e-9)


@given(st.floats(0.5, 500), st.floats(0.5, 500), st.floats(0.001, 0.999))
def test_its_inverse(a: float, b: float, p: float) -> None:
    """The inverse leads back."""
    assert betainc(a, b, betaincinv(a, b, p)) == pytest.approx(p, abs=1e-9)


@pytest.mark.parametrize("freedom", [1, 2, 3, 7, 31, 999])
@pytest.mark.parametrize("alpha", [0.001, 0.01, 0.2, 0.4])
def test_points_of_t(freedom: int, alpha: float) -> None:
    """Quantiles of Student's t are scipy's, and its tail leads back."""
    point = t_point(alpha, freedom)

    assert point == pytest.approx(special.stdtrit(freedom, 1 - alpha), abs=1e-8, rel=1e-8)
    assert t_above(point, freedom) == pytest.approx(alpha)
    assert t_above(-point, freedom) == pytest.approx(1 - alpha)


@pytest.mark.parametrize(("count", "total"), [(0, 4800), (1, 100), (16, 16_000), (99, 100)])
def test_bounds_of_a_share(count: int, total: int) -> None:
    """Clopper-Pearson: at its upper end so few, at its lower so many, come with chance alpha."""
    high, low = share_above(count, total, 0.01), share_below(count, total, 0.01)

    assert special.bdtr(count, total, high) == pytest.approx(0.01, rel=1e-6)
    assert low <= count / total <= high
    if count:
        assert binomial_at_least(count, total, low) == pytest.approx(0.01, rel=1e-6)


def test_ends_of_a_share() -> None:
    """None says nothing of the least, all nothing of the most."""
    assert share_below(0, 100, 0.01) == 0.0
    assert share_above(100, 100, 0.01) == 1.0
    assert binomial_at_least(0, 100, 0.5) == 1.0
