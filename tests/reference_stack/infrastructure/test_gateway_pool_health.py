"""Servers that hang, are probed and come back, as the pool hears of it. No clock, no socket."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reference_stack.services.infrastructure.api_gateway.routing.pool import Place
from reference_stack.services.infrastructure.api_gateway.routing.server import Out, Server, Sign
from tests.reference_stack.infrastructure.pool_cases import RULES, fail, place, pool


def test_a_server_that_holds_streams_and_says_nothing_is_out() -> None:
    """A hung engine is ejected by its silence, its holders are asked to give up, and any byte brings it back."""
    found = pool(None, None)
    asked: list[Place] = []
    places = [place(found, stream=True) for _ in range(4)]
    for each in places:
        each.on_stalled = lambda each=each: asked.append(each)  # type: ignore[misc]  # mypy sees no default here
    hung, well = found.servers
    well.heard = True
    found.tick(5.0)
    assert not hung.stalled
    found.tick(5.1)
    assert hung.out(5.1) is Out.STALLED
    assert [each.server for each in asked] == [hung, hung]
    assert well.standing is None
    assert found.counts.ejected == {("s0", Out.STALLED): 1}
    for each in asked:
        found.end(each, Sign.STALLED, 5.2)
    assert {place(found, 5.2).server for _ in range(10)} == {well}

    hung.heard = True
    found.tick(5.3)

    assert hung.standing is None


def test_a_server_that_has_gone_quiet_is_asked_last() -> None:
    """Long before a silent server is out, requests go to others, however loaded; a byte makes it their equal."""
    found = pool(None, None)
    quiet, well = (place(found, stream=True).server for _ in range(2))
    well.heard = True
    found.tick(0.6)
    assert quiet.standing is None
    assert {place(found, 0.6, stream=True).server for _ in range(10)} == {well}
    assert {place(found, 0.6, key=key).server for key in range(1, 10)} == {well}

    quiet.heard = True
    found.tick(0.7)

    assert place(found, 0.7).server is quiet


def test_who_tries_a_stalled_server_is_asked_to_give_up_in_time() -> None:
    """A request that tries an only server which is hung waits no longer than the others did."""
    found = pool(None)
    place(found, stream=True)
    found.tick(5.1)
    late = place(found, 6.0, stream=True)
    asked: list[float] = []
    late.on_stalled = lambda: asked.append(1)
    found.tick(11.0)
    assert not asked
    found.tick(11.1)
    assert asked


def test_an_idle_server_is_silent_with_reason() -> None:
    """Silence counts from the first open stream, or whole answer, and not from the last byte before."""
    found = pool(None)
    found.tick(900.0)
    given = place(found, 900.0, stream=True)
    found.tick(904.9)
    assert not found.servers[0].stalled
    found.end(given, Sign.OK, 904.9)
    found.tick(1000.0)

    place(found, 1000.0)
    found.tick(1019.9)
    assert not found.servers[0].stalled
    stream = place(found, 1019.9, stream=True)
    found.tick(1024.8)
    assert not found.servers[0].stalled
    found.end(stream, Sign.CANCELLED, 1024.8)
    found.tick(1045.0)
    assert found.servers[0].stalled


def test_a_gateway_that_was_held_up_blames_nobody() -> None:
    """When the gateway itself stood still for a minute, a server that said nothing in it is not out."""
    rules = replace(RULES, longest_step_s=0.2)
    server = Server("s", weight=1.0, max_in_flight=None, rules=rules, now_s=0.0)
    server.begin(stream=True)
    assert not server.tick(60.0)
    steps = next(number for number in range(1, 100) if server.tick(60.0 + 0.1 * number))
    assert steps == pytest.approx(49, abs=1)


def test_a_stream_that_its_client_does_not_read_is_no_silence() -> None:
    """A server is not blamed for bytes that nobody takes; when the client reads again the time starts anew."""
    found = pool(None)
    server = found.servers[0]
    place(found, stream=True)
    server.waiting_for_client += 1
    found.tick(100.0)
    assert not server.stalled
    server.go_on()
    found.tick(104.0)
    assert not server.stalled
    found.tick(105.1)
    assert server.stalled


def test_two_bad_probes_and_a_server_is_out_and_one_good_one_and_it_is_in() -> None:
    """One lost probe is no verdict."""
    found = pool(None, None)
    server = found.servers[0]
    found.probed(server, well=False)
    assert server.standing is None
    found.probed(server, well=False)
    found.probed(server, well=False)
    assert server.out(0.0) is Out.UNHEALTHY
    assert found.counts.ejected == {("s0", Out.UNHEALTHY): 1}
    found.probed(server, well=True)
    assert server.standing is None


def test_an_answer_to_the_gateways_own_question_brings_a_server_back() -> None:
    """Any answer ends a stall; only a good one closes a breaker."""
    found = pool(None)
    server = found.servers[0]
    fail(found, server)
    place(found, stream=True)
    found.tick(6.0)
    assert server.out(6.0) is Out.STALLED
    server.answered(404, 6.1)
    assert not server.stalled
    assert server.standing is not None
    server.answered(200, 6.2)
    assert server.standing is None


def test_an_error_to_the_gateways_own_question_spares_the_clients() -> None:
    """A server that answers it with an error is left alone for another time; load proves nothing."""
    found = pool(None, None)
    server = found.servers[0]
    fail(found, server)
    assert server.breaker.half_open(1.5)

    server.answered(503, 1.5)
    assert server.breaker.half_open(1.5)
    server.answered(500, 1.5)

    assert server.out(2.4) is Out.FAILING
    assert server.breaker.half_open(2.5)
    found.servers[1].answered(500, 1.5)
    assert found.servers[1].well
