"""The line before the servers of one model: who waits, in which order, and who does not. No clock, no socket."""

from __future__ import annotations

from dataclasses import replace

from reference_stack.services.infrastructure.api_gateway.routing.pool import Bounds, Place, Shed
from reference_stack.services.infrastructure.api_gateway.routing.server import Sign
from tests.reference_stack.infrastructure.pool_cases import BOUNDS, Heard, fail, place, pool


def test_who_finds_the_servers_full_waits_in_order() -> None:
    """First come, first served; whoever comes while somebody waits goes behind him."""
    found = pool(1)
    first = place(found)
    line = [Heard(), Heard()]
    for each in line:
        assert found.request(0, 0.0, stream=False) is None
        found.wait(each.waiter())
    found.end(first, Sign.OK, 1.0)
    assert [len(each.told) for each in line] == [1, 0]
    assert found.request(0, 1.0, stream=False) is None

    given = line[0].told[0]
    assert isinstance(given, Place)
    found.end(given, Sign.OK, 2.0)
    assert [len(each.told) for each in line] == [1, 1]
    assert found.waiting == 0


def test_nobody_slips_in_before_the_line_moves() -> None:
    """When a server comes back, those in line are first: newcomers and retries go behind them."""
    found = pool(1, 1)
    ill = found.servers[1]
    fail(found, ill)
    held = place(found, 0.1)
    heard = Heard()
    assert found.request(0, 0.1, stream=False) is None
    found.wait(heard.waiter())
    ill.answered(200, 0.1)

    assert found.request(0, 0.2, stream=False) is None
    assert not found.may_again([held.server], Sign.UNREACHED, 0.2)

    found.tick(0.2)
    assert [each.server for each in heard.told if isinstance(each, Place)] == [ill]


def test_the_line_has_an_end() -> None:
    """A full line sends away at once, and a waiter whose time is up makes room."""
    found = pool(1, bounds=replace(BOUNDS, line=1))
    place(found)
    waiter = Heard().waiter()
    assert found.request(0, 0.0, stream=False) is None
    found.wait(waiter)
    assert found.request(0, 0.0, stream=False) is Shed.LINE

    found.leave(waiter)
    found.leave(waiter)

    assert found.waiting == 0
    assert found.counts.shed == {Shed.LINE: 1}
    assert found.request(0, 0.0, stream=False) is None


def test_a_place_for_somebody_who_left_goes_to_the_next() -> None:
    """A thousand clients that went in the same moment hold nobody up and keep no place."""
    found = pool(1, bounds=Bounds(affinity=1.25, most=2000, line=2000))
    first = place(found)
    gone = [Heard(there=False) for _ in range(1000)]
    last = Heard()
    for each in [*gone, last]:
        found.wait(each.waiter())

    found.end(first, Sign.OK, 1.0)

    assert len(last.told) == 1
    assert found.servers[0].in_flight == 1


def test_the_line_hears_when_there_is_nobody_left_to_wait_for() -> None:
    """When the servers go out, those in line beyond the trials are told instead of kept."""
    found = pool(1)
    server = found.servers[0]
    held = place(found, stream=True)
    line = [Heard() for _ in range(3)]
    for each in line:
        found.wait(each.waiter())
    found.tick(6.0)
    assert server.stalled

    found.end(held, Sign.STALLED, 6.0)
    found.end(line[0].told[0], Sign.ERRED, 6.1)  # type: ignore[arg-type]  # its type is what the next line looks at
    assert all(isinstance(each.told[0], Place) for each in line[:2])


def test_one_model_takes_no_more_than_its_share() -> None:
    """Open and waiting together stay within `most`, so that one model's trouble leaves room for the others."""
    found = pool(1, None, bounds=replace(BOUNDS, most=2))
    places = [place(found), place(found)]
    assert found.request(0, 0.0, stream=False) is Shed.SHARE
    found.end(places[0], Sign.OK, 0.0)
    assert isinstance(found.request(0, 0.0, stream=False), Place)
