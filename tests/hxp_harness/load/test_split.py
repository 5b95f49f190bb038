"""One schedule for several clients: nothing twice, nothing lost, and each its share."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hxp_harness.load.clients import EVENTS_OF_A_REQUEST, EVENTS_PER_CLIENT, enough_clients
from hxp_harness.load.generator import share_of
from hxp_harness.load.plan import Due, LoadPlan
from hxp_harness.load.split import deal, slots_of


def schedule_of(sessions: list[int]) -> list[Due]:
    """Return sessions of so many turns each, one after another; single requests are sessions of one turn."""
    found: list[Due] = []
    for turns in sessions:
        for turn in range(turns):
            index = len(found)
            found.append(Due(index, 0, index * 0.01, 8, 4, seed=index, after=index - 1 if turn else -1))
    return found


sessions = st.lists(st.integers(1, 4), max_size=60)


@settings(deadline=None)
@given(sessions, st.lists(st.integers(0, 4), min_size=1, max_size=5).filter(any), st.integers(0, 12))
def test_every_request_goes_to_exactly_one(lengths: list[int], clients: list[int], slots: int) -> None:
    """The parts are a partition of the schedule, each in its order, and whoever has no client has no request."""
    schedule = schedule_of(lengths)
    parts = deal(schedule, clients, slots)
    assert sorted((due for part in parts for due in part), key=lambda due: due.index) == schedule
    for part, count in zip(parts, clients, strict=True):
        assert [due.index for due in part] == sorted(due.index for due in part)
        assert count or not part
    assert deal(schedule, clients, slots) == parts


@settings(deadline=None)
@given(sessions, st.integers(1, 5))
def test_a_session_stays_with_one_client(lengths: list[int], clients: int) -> None:
    """A turn is sent by whoever gets the answer that it follows."""
    parts = deal(schedule_of(lengths), [1] * clients)
    for part in parts:
        here = {due.index for due in part}
        assert all(due.after in here for due in part if due.after >= 0)


@settings(deadline=None)
@given(st.integers(1, 200), st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_shares_are_even_over_time(count: int, clients: list[int]) -> None:
    """Of any first requests each receiver has its share to within its own number of clients."""
    parts = deal(schedule_of([1] * count), clients)
    for first in (count // 3, count):
        for part, weight in zip(parts, clients, strict=True):
            own = sum(due.index < first for due in part)
            assert abs(own - first * weight / sum(clients)) < weight + 1


@settings(deadline=None)
@given(st.integers(1, 150), st.integers(1, 4), st.integers(1, 4))
def test_two_stages_deal_as_one(count: int, hosts: int, clients: int) -> None:
    """Dealt to hosts and there to clients, each client has what it had if all clients were on one machine."""
    schedule = schedule_of([1] * count)
    stages = [part for host in deal(schedule, [clients] * hosts) for part in deal(host, [1] * clients)]
    assert stages == deal(schedule, [1] * (hosts * clients))


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 8))
def test_slots_are_dealt_out_too(slots: int, clients: int) -> None:
    """The slots of a closed loop are all given away, evenly; no client has work without a slot for it."""
    plan = LoadPlan("http://h/v1", "m", "chat", True, 1.0, concurrency=slots)
    schedule = schedule_of([1] * (3 * slots))
    shares = [share_of(plan, schedule, number, clients) for number in range(1, clients + 1)]
    assert sum(own.concurrency for own, _ in shares) == slots
    assert max(own.concurrency for own, _ in shares) - min(own.concurrency for own, _ in shares) <= 1
    assert all(len(part) == 3 * own.concurrency for own, part in shares)
    assert [own.concurrency for own, _ in shares] == [slots_of(slots, clients, one) for one in range(clients)]


def test_one_client_has_all() -> None:
    """A load of one part is the whole load."""
    plan = LoadPlan("http://h/v1", "m", "chat", True, 1.0, concurrency=3)
    schedule = schedule_of([1, 2, 1])
    assert share_of(plan, schedule, 1, 1) == (plan, schedule)


@pytest.mark.parametrize(("cores", "enough"), [(1, 1), (2, 1), (4, 3), (16, 5)])
def test_clients_follow_rate_and_cores(cores: int, enough: int) -> None:
    """As many as the rate needs, but one core is left, and there is always one."""
    tokens = 64
    rate_rps = 4.5 * EVENTS_PER_CLIENT / (tokens + EVENTS_OF_A_REQUEST)
    assert enough_clients(rate_rps, tokens, cores) == enough
    assert enough_clients(1.0, tokens, cores) == 1


def test_the_deal_is_even() -> None:
    """Single requests go round."""
    parts = deal(schedule_of([1] * 10), [1, 2])
    assert Counter(len(part) for part in parts) == {4: 1, 6: 1}
