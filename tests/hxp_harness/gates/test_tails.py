"""Tails lead back to the points that they belong to, and to published tables."""

import pytest
from scipy import special

from hxp_harness.gates.tails import (
    binomial_at_least,
    share_above,
    share_below,
    t_above,
    t_point,
)


@pytest.mark.parametrize("freedom", [1, 2, 3, 7, 31, 999])
@pytest.mark.parametrize("alpha", [0.001, 0.01, 0.2, 0.4])
def test_points_of_t(freedom: int, alpha: float) -> None:
    """The tail of Student's t above its point is the chance that was asked for, on both sides."""
    point = t_point(alpha, freedom)

    assert t_above(point, freedom) == pytest.approx(alpha)
    assert t_above(-point, freedom) == pytest.approx(1 - alpha)


@pytest.mark.parametrize(("freedom", "point"), [(1, 31.821), (3, 4.541), (7, 2.998), (30, 2.457)])
def test_a_table_of_t(freedom: int, point: float) -> None:
    """The points for 1 % are those of the table in NIST's handbook (1.3.6.7.2)."""
    assert t_point(0.01, freedom) == pytest.approx(point, abs=5e-4)


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
