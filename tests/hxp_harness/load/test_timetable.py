"""Requests that wait for answers become due when those have come, and never before."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hxp_harness.load.plan import Due
from hxp_harness.load.timetable import NEVER_NS, Timetable

MS = 1_000_000


def due(index: int, intended_s: float = 0.0, *, after: int = -1, think_s: float = 0.0) -> Due:
    return Due(index, 0, intended_s, 8, 4, seed=index, after=after, think_s=think_s)


def test_a_schedule_goes_in_the_order_of_its_times() -> None:
    """Times count from t0, whatever ends in between."""
    schedule = [due(0, 0.002), due(1, 0.001), due(2, 0.003)]
    table = Timetable(schedule)
    assert table.next_ns == NEVER_NS
    table.begin(5 * MS)
    taken = [table.take()]
    table.ended(schedule[1], 100 * MS)
    taken += [table.take(), table.take()]
    assert taken == [(6 * MS, 1), (7 * MS, 0), (8 * MS, 2)]
    assert table.next_ns == NEVER_NS


def test_a_turn_follows_its_answer_and_a_think_time() -> None:
    """It is not due before, and the one after it waits in turn."""
    schedule = [due(0), due(1, after=0, think_s=0.01), due(2, after=1, think_s=0.02)]
    table = Timetable(schedule)
    table.begin(0)
    assert table.take() == (0, 0)
    assert table.next_ns == NEVER_NS
    table.ended(schedule[0], 40 * MS)
    assert table.take() == (50 * MS, 1)
    table.ended(schedule[1], 60 * MS)
    assert table.take() == (80 * MS, 2)
    table.ended(schedule[2], 90 * MS)
    assert table.next_ns == NEVER_NS


@given(
    slots=st.integers(1, 8),
    services_ms=st.lists(st.integers(0, 50), min_size=1, max_size=40),
    think_ms=st.integers(0, 20),
)
def test_a_closed_loop_never_has_more_open_than_slots(slots: int, services_ms: list[int], think_ms: int) -> None:
    """Each request is due its think time after some slot became free; all are sent, in order, at most `slots` at once.

    The model beside it is a queue with that many servers, each with its own clock.
    """
    schedule = [due(index, think_s=think_ms / 1000) for index in range(len(services_ms))]
    table = Timetable(schedule, slots)
    table.begin(0)
    free_ns = [0] * slots
    open_: list[tuple[int, int]] = []  # end, place
    for _ in schedule:
        while table.next_ns == NEVER_NS or (open_ and min(open_)[0] + think_ms * MS < table.next_ns):
            end_ns, place = min(open_)
            open_.remove((end_ns, place))
            table.ended(schedule[place], end_ns)
        at_ns, place = table.take()
        earliest_ns = min(free_ns)
        assert at_ns == earliest_ns + think_ms * MS
        free_ns[free_ns.index(earliest_ns)] = at_ns + services_ms[place] * MS
        open_.append((at_ns + services_ms[place] * MS, place))
        assert len(open_) <= slots


def test_a_slot_without_work_stays_free() -> None:
    """More slots than requests are no error."""
    table = Timetable([due(0)], 3)
    table.begin(0)
    assert table.take() == (0, 0)
    table.ended(due(0), 10)
    assert table.next_ns == NEVER_NS


@pytest.mark.parametrize("slots", [0, 2])
def test_nothing_is_due_of_nothing(slots: int) -> None:
    """An empty schedule ends at once."""
    table = Timetable([], slots)
    table.begin(0)
    assert table.next_ns == NEVER_NS
