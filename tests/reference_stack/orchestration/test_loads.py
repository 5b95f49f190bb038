"""The loads of a calibration: what it is fitted to, what it is tested on, and in which order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reference_stack.orchestration.loads import Loads, Speed, first_of, fullest, in_turn

TIMES = st.dictionaries(st.sampled_from((0.1, 0.3, 0.6, 0.9, 1.2)), st.integers(1, 4))


@given(most=st.integers(1, 300), closed=st.integers(1, 7), parts=TIMES)
def test_every_load_is_measured_as_often_as_asked(most: int, closed: int, parts: dict[float, int]) -> None:
    """Closed loops have sizes below the fullest, down to 1; each open load comes so often, under its own names."""
    asked = Loads(closed=closed, learned=((0.45, 2),), parts=tuple(parts.items()))
    loads = list(in_turn("phi3", Speed(50.0, 0.2), most, asked))

    names = [load.name for load in loads]
    assert len(set(names)) == len(names)
    assert [load.name for load in loads if not load.held_back and not load.slots] == ["phi3-45", "phi3-45-again1"]
    sizes = [load.slots for load in loads if load.slots]
    assert not any(load.held_back for load in loads if load.slots)
    assert sizes == sorted(set(sizes), reverse=True)
    assert all(size < most for size in sizes)
    assert (1 in sizes) == (most > 1 and closed > 1)
    for part, times in parts.items():
        same = [load for load in loads if load.held_back and first_of(load.name) == f"phi3-{part * 100:.0f}"]
        assert [load.rate_rps for load in same] == [50.0 * part] * times


@given(parts=TIMES, learned=TIMES)
def test_both_kinds_are_spread_over_the_session(parts: dict[float, int], learned: dict[float, int]) -> None:
    """A machine that becomes slower meanwhile is slower for as much of what is fitted to as of what is tested on."""
    asked = Loads(learned=tuple(learned.items()), parts=tuple(parts.items()))
    held_back = [load.held_back for load in in_turn("mixtral", Speed(70.0, 0.25), 128, asked)]

    for kind in (True, False):
        places = [place for place, other in enumerate(held_back) if other is kind]
        for count, place in enumerate(places, 1):
            assert abs(count / len(places) - (place + 1) / len(held_back)) <= 1.0 / len(places)


def test_no_load_is_both_learned_and_tested() -> None:
    """What the fit is tested on was not fitted to, and the fullest loop is there to learn from."""
    loads = list(in_turn("mixtral", Speed(70.0, 0.25), 128, Loads()))

    rates = [{load.rate_rps for load in loads if load.held_back is kind and not load.slots} for kind in (True, False)]
    assert all(rates)
    assert not rates[0] & rates[1]
    first = fullest("mixtral", Speed(70.0, 0.25), 128)
    assert (first.slots, first.held_back) == (128, False)


def test_a_loop_takes_what_its_clients_and_the_engine_allow() -> None:
    """One client is served as fast as it is answered; very many are served what the engine serves at most."""
    speed = Speed(70.0, 0.25)

    assert 3.5 < speed.rate_rps(1) < 4.0
    assert 69.0 < speed.rate_rps(10_000) < 70.0
