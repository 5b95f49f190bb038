"""The servers of one model as a state machine: places, the line, ejection and return. No clock, no socket."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from reference_stack.services.infrastructure.api_gateway.routing.budget import Budget
from reference_stack.services.infrastructure.api_gateway.routing.pool import Bounds, Place, Pool, Shed, Waiter
from reference_stack.services.infrastructure.api_gateway.routing.server import Out, Rules, Server, Sign

RULES = Rules(
    failures=3,
    of=6,
    open_s=1.0,
    trials=2,
    stalled_s=5.0,
    whole_stalled_s=20.0,
    longest_step_s=1000.0,
    bad_probes=2,
    longest_rest_s=5.0,
)
BOUNDS = Bounds(affinity=1.25, most=100, line=3)
FAULTS = (Sign.UNREACHED, Sign.LOST, Sign.ERRED, Sign.BROKEN)


def pool(*most: int | None, bounds: Bounds = BOUNDS, share: float = 0.1) -> Pool:
    """A pool with a server for each of `most`, its most requests in flight."""
    servers = [
        Server(f"s{number}", weight=1.0, max_in_flight=each, rules=RULES, now_s=0.0) for number, each in enumerate(most)
    ]
    return Pool(servers, RULES, bounds, Budget(share=share))


def place(found: Pool, now_s: float = 0.0, *, key: int = 0, stream: bool = False) -> Place:
    given = found.request(key, now_s, stream=stream)
    assert isinstance(given, Place)
    return given


def again(found: Pool, tried: list[Place], now_s: float = 0.0, key: int = 0) -> Place | None:
    """The place of another attempt, where there may be one."""
    last = tried[-1]
    assert last.ended is not None
    servers = [each.server for each in tried]
    if not found.may_again(servers, last.ended, now_s):
        return None
    given = found.another(servers, key, now_s, stream=last.stream)
    assert given is not None
    return given


def fail(found: Pool, server: Server, now_s: float = 0.0, sign: Sign = Sign.ERRED) -> None:
    """Let the server fail until it is out."""
    while server.out(now_s) is None:
        given = place(found, now_s)
        found.end(given, sign if given.server is server else Sign.OK, now_s)


@dataclass
class Heard:
    """Somebody in line, and what he was told."""

    told: list[Place | Shed] = field(default_factory=list)
    there: bool = True

    def waiter(self, key: int = 0) -> Waiter:
        def tell(found: Place | Shed) -> bool:
            self.told.append(found)
            return self.there

        return Waiter(key, stream=False, told=tell)


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
