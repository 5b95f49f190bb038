"""Targets are visited so that neither order nor cache favours one."""

import pytest

from hxp_harness.comparison.visits import visits


@pytest.mark.parametrize("shared", [False, True])
def test_no_server_sees_a_seed_twice(shared: bool) -> None:
    """However many pairs, no prompt comes back to a server that has its answer cached."""
    planned = visits(6, 3, 100, shared=shared)
    seen = [(one.target if not shared else "both", one.seed) for one in planned]

    assert len(planned) == 18
    assert len(set(seen)) == len(seen)


def test_both_of_a_pair_have_the_same_arrivals() -> None:
    """A and B of a pair share their seed, and the order turns from pair to pair: A B B A."""
    planned = [one for one in visits(4, 2, 7, shared=False) if len(one.side) == 1]

    assert [one.side for one in planned] == ["a", "b", "b", "a", "a", "b", "b", "a"]
    for pair in range(4):
        assert len({one.seed for one in planned if one.pair == pair}) == 1


def test_the_noise_floor_comes_first() -> None:
    """A is compared with itself before B is seen, under seeds that differ."""
    floor = visits(2, 3, 1, shared=False)[:6]

    assert [one.side for one in floor] == ["a1", "a2"] * 3
    assert {one.target for one in floor} == {"a"}
    assert len({one.seed for one in floor}) == 6
