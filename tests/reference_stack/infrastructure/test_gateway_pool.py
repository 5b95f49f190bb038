"""The servers of one model as a state machine: places, the breaker, other attempts. No clock, no socket."""

from __future__ import annotations

from dataclasses import replace

from reference_stack.services.infrastructure.api_gateway.routing.pool import Place, Shed
from reference_stack.services.infrastructure.api_gateway.routing.server import Out, Sign
from tests.reference_stack.infrastructure.pool_cases import BOUNDS, FAULTS, again, fail, place, pool


def test_servers_share_the_load_and_give_it_back() -> None:
    """Requests spread over the servers, and an ended one leaves nothing behind, however often it is told."""
    found = pool(None, None)
    places = [place(found) for _ in range(10)]
    assert [each.in_flight for each in found.servers] == [5, 5]

    for each in places * 2:
        found.end(each, Sign.OK, 1.0)

    assert [each.in_flight for each in found.servers] == [0, 0]
    assert found.open == 0
    assert [each.served for each in found.servers] == [5, 5]


def test_refusals_and_load_open_no_breaker() -> None:
    """A hundred 400s, 429s, 503s and cancelled requests keep a server as trusted as before."""
    found = pool(None)
    for sign in (Sign.REFUSED, Sign.BUSY, Sign.CANCELLED, Sign.STALLED) * 25:
        found.end(place(found), sign, 0.0)
    assert found.servers[0].standing is None


def test_each_kind_of_fault_opens_the_breaker() -> None:
    """A server that is not reached, lost, in error or breaks off is out after its third, and the others take all."""
    for sign in FAULTS:
        found = pool(None, None)
        ill = found.servers[0]
        fail(found, ill, sign=sign)
        assert ill.out(0.5) is Out.FAILING
        assert {place(found, 0.5).server for _ in range(20)} == {found.servers[1]}
        assert found.counts.ejected == {("s0", Out.FAILING): 1}


def test_a_server_returns_through_a_few_trials() -> None:
    """Half open it gets at most `trials` at once; the first that is good brings it back."""
    found = pool(None, None)
    ill = found.servers[0]
    fail(found, ill)

    given = [place(found, 1.5) for _ in range(20)]
    trials = [each for each in given if each.server is ill]
    assert len(trials) == 2
    assert all(each.trial for each in trials)

    found.end(trials[0], Sign.OK, 1.6)
    assert ill.standing is None
    found.end(trials[1], Sign.OK, 1.6)
    assert ill.breaker.trials_out == 0


def test_load_in_a_trial_proves_nothing() -> None:
    """A 503 in half open neither brings a server back nor sends it away."""
    found = pool(None)
    fail(found, found.servers[0])
    found.end(place(found, 2.0), Sign.BUSY, 2.0)
    assert found.servers[0].out(2.0) is None
    assert found.servers[0].standing is not None


def test_the_last_server_is_never_quite_out() -> None:
    """With nobody to trust, a few at a time still try, the rest hear at once, and one good answer ends it."""
    found = pool(None)
    fail(found, found.servers[0])

    tries = [found.request(0, 0.1, stream=False) for _ in range(5)]

    assert tries[2:] == [Shed.OUT] * 3
    assert found.counts.shed == {Shed.OUT: 3}
    assert isinstance(tries[0], Place)
    found.end(tries[0], Sign.OK, 0.2)
    assert found.servers[0].standing is None


def test_a_failed_request_goes_elsewhere() -> None:
    """A retry asks a server that this request has not tried, and ends when there is none."""
    found = pool(None, None, None)
    tried: list[Place] = [place(found)]
    while True:
        found.end(tried[-1], Sign.UNREACHED, 0.0)
        following = again(found, tried)
        if following is None:
            break
        tried.append(following)
    assert sorted(each.server.name for each in tried) == ["s0", "s1", "s2"]
    assert found.counts.retries == 2


def test_retries_stay_within_the_budget() -> None:
    """Servers that lose every request cause at most a tenth more of them, and one."""
    found = pool(None, None, bounds=replace(BOUNDS, most=10_000))
    for number in range(200):
        given = place(found, float(number))
        found.end(given, Sign.LOST, float(number))
        following = again(found, [given], float(number))
        if following is not None:
            found.end(following, Sign.LOST, float(number))
    assert 15 <= found.counts.retries <= 21


def test_an_only_server_that_lost_its_connection_is_asked_once_more() -> None:
    """A connection that broke says little of a server that is trusted; an error or a refusal to connect says enough."""
    for sign, expected in ((Sign.LOST, True), (Sign.ERRED, False), (Sign.UNREACHED, False), (Sign.BUSY, False)):
        found = pool(None)
        given = place(found)
        found.end(given, sign, 0.0)
        following = again(found, [given])
        assert (following is not None) is expected
        if following is not None:
            found.end(following, sign, 0.0)
            assert again(found, [given, following]) is None


def test_a_busy_server_rests_while_another_can() -> None:
    """Retry-After is honoured within a bound: others go first, and where all rest none is left idle."""
    found = pool(None, None)
    first = place(found)
    found.end(first, Sign.BUSY, 0.0, rest_s=3600.0)

    assert {place(found, 0.1).server for _ in range(10)} == {found.servers[1]}
    assert first.server in {place(found, 5.1).server for _ in range(10)}

    alone = pool(None)
    found.end(first, Sign.BUSY, 0.0)
    alone.end(place(alone), Sign.BUSY, 0.0, rest_s=3.0)
    assert place(alone, 0.1).server is alone.servers[0]
