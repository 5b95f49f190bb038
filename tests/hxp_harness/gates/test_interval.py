"""Bounds over replicates: against a pencil, at their edges, and monotone in what was seen."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hxp_harness.gates.interval import holm, plain_interval, positive_interval

POSITIVE = st.lists(st.floats(0.01, 100), min_size=2, max_size=12)


def test_a_latency_is_bounded_by_a_factor() -> None:
    """Four replicates of 1, 1, 4 and 4 s: the middle is 2 s, and t with 3 degrees of freedom gives the factor."""
    found = positive_interval([1, 1, 4, 4], [1, 1, 4, 4], limit=3.0)
    factor = math.exp(4.540702858698419 * math.log(2) * math.sqrt(4 / 3) / 2)

    assert found.high == pytest.approx(2 * factor)
    assert found.low == pytest.approx(2 / factor)
    assert found.log


def test_a_rate_is_bounded_by_a_difference() -> None:
    """Replicates of 49 and 51 rps: the mean is 50, the standard error 1, t with 1 degree of freedom 31.8."""
    found = plain_interval([49, 51], [49, 51], limit=45)

    assert [found.low, found.high] == pytest.approx([50 - 31.820515953773958, 50 + 31.820515953773958])
    assert found.p_over == pytest.approx(0.0628, abs=1e-4)
    assert found.p_under == pytest.approx(1 - found.p_over)


@given(POSITIVE, st.floats(0.01, 100))
def test_each_side_uses_its_own_end(values: list[float], limit: float) -> None:
    """Uncertain arrivals widen the bounds, and never move one inwards."""
    wider = [value * 1.5 for value in values]
    narrow, wide = positive_interval(values, values, limit), positive_interval(values, wider, limit)

    assert wide.low == narrow.low
    assert wide.high >= narrow.high
    assert wide.p_over == narrow.p_over


@given(POSITIVE, st.floats(0.01, 100), st.floats(1.01, 10))
def test_more_is_worse(values: list[float], limit: float, factor: float) -> None:
    """Slower replicates raise the upper bound by the same factor, and speak more against the limit."""
    slower = [value * factor for value in values]
    before, after = positive_interval(values, values, limit), positive_interval(slower, slower, limit)

    assert after.high == pytest.approx(before.high * factor)
    if max(slower) < 10 * limit:
        assert after.p_over <= before.p_over + 1e-12


@given(POSITIVE)
def test_bounds_enclose_the_middle(values: list[float]) -> None:
    """The middle of what was seen lies within the bounds."""
    found = positive_interval(values, values, 1000.0)
    middle = math.exp(math.fsum(map(math.log, values)) / len(values))

    assert found.low <= middle * (1 + 1e-9)
    assert found.high >= middle * (1 - 1e-9)


@pytest.mark.parametrize("values", [[], [1.0]])
def test_one_replicate_says_nothing(values: list[float]) -> None:
    """Without a second replicate nothing is known of the spread, so nothing is bounded and nothing shown."""
    found = positive_interval(values, values, 0.1)

    assert found.high == math.inf
    assert found.low <= 0.0
    assert found.p_over == 1.0


def test_an_infinite_replicate_has_no_upper_bound() -> None:
    """One replicate of which nothing is known upwards leaves the whole without an upper bound."""
    found = positive_interval([1, 1, 1, 1], [1, 1, 1, math.inf], limit=5)

    assert found.high == math.inf
    assert found.p_over == 1.0


def test_replicates_of_failures_are_evidence() -> None:
    """When every replicate is infinite the limit is broken for certain."""
    values = [math.inf] * 4

    found = positive_interval(values, values, limit=2.0)

    assert found.p_over == 0.0
    assert found.low > 2.0


def test_mostly_failures_are_evidence_too() -> None:
    """Seven infinite replicates of eight break the limit, although one was fast."""
    values = [math.inf] * 7 + [1.0]

    assert positive_interval(values, values, limit=2.0).p_over < 0.009


def test_times_below_the_clock_are_bounded_plainly() -> None:
    """A statistic of zero has no logarithm: the plain scale serves."""
    found = positive_interval([0.0, 0.0, 0.1], [0.0, 0.0, 0.1], limit=1.0)

    assert not found.log
    assert math.isfinite(found.high)


def test_equal_replicates_are_certain() -> None:
    """Replicates that are all alike bound the value by itself."""
    found = positive_interval([2.0] * 3, [2.0] * 3, limit=1.0)

    assert [found.low, found.high] == pytest.approx([2.0, 2.0])
    assert found.p_over == 0.0
    assert found.p_under == 1.0


@pytest.mark.parametrize(
    ("p_values", "fallen"),
    [
        ([], []),
        ([0.009], [True]),
        ([0.011], [False]),
        ([0.004, 0.009], [True, True]),
        ([0.009, 0.009], [False, False]),
        ([0.5, 0.003, 0.004], [False, True, True]),
    ],
)
def test_holm(p_values: list[float], fallen: list[bool]) -> None:
    """Holm's steps by hand: the smallest against alpha / m, the next against alpha / (m - 1)."""
    assert holm(p_values, 0.01) == fallen
