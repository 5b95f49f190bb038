"""The loads of a calibration: what it is fitted to, what it is tested on, and in which order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reference_stack.orchestration.loads import Loads, Speed, first_of, fullest, in_turn

TIMES = st.dictionaries(st.sampled_from((0.1, 0.3, 0.6, 0.9, 1.2)), st.integers(1, 4))


@given(most=st.integers(1, 300), closed=st.integers(1, 7), parts=TIMES)
def test_every_load_is_measured_as_often_as_asked(most: int, closed: int, parts: dict[float, int]) -> None:
    """Closed loops have sizes below the fullest, down to 1; each open load comes so often, under its own names."""
    loads = list(in_turn("phi3", Speed(50.0, 0.2), most, Loads(closed=closed, parts=tuple(parts.items()))))

    names = [load.name for load in loads]
    assert len(set(names)) == len(names)
    sizes = [load.slots for load in loads if not load.held_back]
    assert sizes == sorted(set(sizes), reverse=True)
    assert all(size < most for size in sizes)
    assert (1 in sizes) == (most > 1 and closed > 1)
    for part, times in parts.items():
        same = [load for load in loads if load.held_back and first_of(load.name) == f"phi3-{part * 100:.0f}"]
        assert [load.rate_rps for load in same] == [50.0 * part] * times


def test_both_kinds_take_turns() -> None:
    """A machine that becomes slower meanwhile is slower for what is fitted to and for what is tested on."""
    held_back = [load.held_back for load in in_turn("mixtral", Speed(70.0, 0.25), 128, Loads())]

    assert held_back[:8] == [True, False] * 4
    assert fullest("mixtral", Speed(70.0, 0.25), 128).slots == 128


def test_a_loop_takes_what_its_clients_and_the_engine_allow() -> None:
    """One client is served as fast as it is answered; very many are served what the engine serves at most."""
    speed = Speed(70.0, 0.25)

    assert 3.5 < speed.rate_rps(1) < 4.0
    assert 69.0 < speed.rate_rps(10_000) < 70.0
