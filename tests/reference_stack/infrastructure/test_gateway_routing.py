"""What clients see of a gateway with two servers a model when one of them, or both, misbehave: on real sockets."""

from __future__ import annotations

import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import httpx
import pytest

from hxp_harness.faults.backend import Backend as Scripted
from hxp_harness.faults.proxy import Proxy
from tests.reference_stack.infrastructure.conftest import (
    ALICE,
    DONE,
    ROLE,
    Backend,
    Gateway,
    MakeGateway,
    Wire,
    chat,
    eventually,
    metrics,
    text_event,
)

FAST: dict[str, object] = {
    "probe_s": 0.1,
    "breaker_open_s": 0.3,
    "stalled_s": 0.4,
    "whole_stalled_s": 0.4,
    "ask_s": 0.3,
}


@dataclass
class Pair:
    """A gateway before two scripted servers of mixtral, each behind a proxy."""

    gateway: Gateway
    servers: tuple[Scripted, Scripted]
    proxies: tuple[Proxy, Proxy]

    def post(self, number: int = 0, **more: object) -> httpx.Response:
        messages = [{"role": "user", "content": f"question {number}"}]
        return self.gateway.post(chat(messages=messages, **more), **{"x-request-id": f"r{number}"})

    def many(self, count: int, **more: object) -> Counter[int]:
        """Send `count` different requests one after another; return how many had each status."""
        return Counter(self.post(number, **more).status_code for number in range(count))

    def value(self, name: str, **labels: str) -> float:
        """The sum of a metric over the series with these labels; `server` is 0 or 1."""
        if "server" in labels:
            labels["server"] = "127.0.0.1:{}".format(self.proxies[int(labels["server"])].port)
        total = 0.0
        found = False
        for line in self.gateway.http.get("/metrics").text.splitlines():
            if re.match(rf"{name}(\{{|\s)", line) and all(f'{key}="{value}"' in line for key, value in labels.items()):
                total += float(line.rpartition(" ")[2])
                found = True
        assert found, f"no series of {name} with {labels}"
        return total

    def back_within(self, server: int, within_s: float = 20.0) -> None:
        eventually(lambda: self.value("hxp_gateway_server_in", server=str(server)) == 1.0, within_s=within_s)

    def out(self, server: int, why: str) -> None:
        eventually(lambda: self.value("hxp_gateway_ejections_total", server=str(server), why=why) >= 1)


MakePair = Callable[..., Pair]


@pytest.fixture
def make_pair(make_gateway: MakeGateway) -> Iterator[MakePair]:
    with ExitStack() as stack:

        def make(routing: dict[str, object] | None = None, tick_s: float = 0.05, **settings: object) -> Pair:
            ill, well = (stack.enter_context(Scripted(tick_s=tick_s)) for _ in range(2))
            proxies = [stack.enter_context(Proxy(("127.0.0.1", each.port))) for each in (ill, well)]
            backends = [{"base_url": f"http://127.0.0.1:{each.port}/v1"} for each in proxies]
            said = {"upstreams": {"mixtral": {"backends": backends}}, "key_rows": ALICE} | settings
            gateway = make_gateway(routing=FAST | (routing or {}), **said)  # type: ignore[arg-type]  # as a test says
            return Pair(gateway, (ill, well), (proxies[0], proxies[1]))

        yield make


@pytest.fixture
def pair(make_pair: MakePair) -> Pair:
    return make_pair()


def answered(server: Scripted) -> int:
    """How many requests of clients the server has seen to their end."""
    return sum(row.request_id != "gateway-probe" for row in server.ledger())


@contextmanager
def black_hole() -> Iterator[int]:
    """Yield a port that takes no connection and refuses none: its backlog is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            caller = stack.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def test_requests_spread_over_the_servers(pair: Pair) -> None:
    """Different prompts use both servers; the same prompt keeps to one."""
    assert pair.many(40) == {200: 40}
    eventually(lambda: sum(map(answered, pair.servers)) == 40)
    first, second = map(answered, pair.servers)
    assert min(first, second) >= 6

    assert Counter(pair.post(7).status_code for _ in range(10)) == {200: 10}
    eventually(lambda: sum(map(answered, pair.servers)) == 50)
    grown = [answered(each) - before for each, before in zip(pair.servers, (first, second), strict=True)]
    assert sorted(grown) == [0, 10]


def test_a_session_keeps_to_one_server(make_pair: MakePair) -> None:
    """With a header for sessions, different prompts of one session go to the same server."""
    pair = make_pair({"session_header": "x-session-id"})
    for number in range(12):
        messages = [{"role": "user", "content": f"question {number}"}]
        assert pair.gateway.post(chat(messages=messages), **{"x-session-id": "s"}).status_code == 200
    eventually(lambda: sorted(map(answered, pair.servers)) == [0, 12])


def test_a_refused_connection_goes_elsewhere(pair: Pair) -> None:
    """No client notices that one of two servers is down, and it is back within two seconds of being up."""
    with pair.proxies[0].toxic("down"):
        assert pair.many(30) == {200: 30}
        pair.out(0, "unhealthy")
    pair.back_within(0)
    assert pair.many(30) == {200: 30}
    assert answered(pair.servers[0]) > 0


def test_a_black_hole_goes_elsewhere(make_pair: MakePair) -> None:
    """A server that swallows connections costs those that meet it `connect_s`, and soon nobody meets it."""
    with black_hole() as port, Scripted() as well:
        backends = [{"base_url": f"http://127.0.0.1:{each}/v1"} for each in (port, well.port)]
        pair = make_pair(upstreams={"mixtral": {"backends": backends}}, connect_s=0.1, health_s=0.1)
        assert pair.many(20) == {200: 20}
        eventually(lambda: pair.value("hxp_gateway_server_in") == 1.0)
        began = time.monotonic()
        assert pair.many(10) == {200: 10}
        assert time.monotonic() - began < 2.0
        eventually(lambda: answered(well) == 30)


@pytest.mark.parametrize("stream", [False, True])
def test_a_hung_engine_is_ejected_and_returns(pair: Pair, stream: bool) -> None:
    """With /health at 200 throughout: who is on it is moved, others go elsewhere, and once well it is used again."""
    hung, well = pair.servers
    hung.behave("headers_never_come")
    with ThreadPoolExecutor(12) as threads:
        replies = list(threads.map(lambda number: pair.post(number, stream=stream), range(12)))
    statuses = Counter(reply.status_code for reply in replies)
    # Moving a request costs retry budget: one, and a tenth of the requests. The others may come back at once.
    assert statuses[200] >= 6
    assert set(statuses) <= {200, 503}
    assert all(reply.headers["retry-after"] == "1" for reply in replies if reply.status_code == 503)
    pair.out(0, "stalled")
    assert pair.many(20, stream=stream) == {200: 20}

    hung.behave("healthy")
    pair.back_within(0)
    before = answered(well)
    assert pair.many(20, stream=stream) == {200: 20}
    assert answered(well) - before < 20


def test_a_stream_that_stalls_is_told_so_long_before_the_deadline(pair: Pair) -> None:
    """A stream that had begun ends with an error event when its server falls silent, and is not begun again."""
    for each in pair.servers:
        each.behave("body_stalls")
    began = time.monotonic()

    reply = pair.post(stream=True)

    assert time.monotonic() - began < 3.0
    assert b'"code":"upstream_failed"' in reply.content.split(b"\n\n")[-2]
    assert b"[DONE]" not in reply.content
    eventually(lambda: sum(map(answered, pair.servers)) == 1)


def test_a_slow_client_is_no_silence_of_the_server(make_gateway: MakeGateway, backend: Backend) -> None:
    """A client that stops reading for longer than `stalled_s` does not get its server ejected."""
    sent = 0

    async def large(wire: Wire) -> None:
        nonlocal sent
        await wire.stream(ROLE)
        for _ in range(256):
            await wire.chunk(text_event("x" * 65536))
            sent += 1
        await wire.chunk(text_event("", "stop"))
        await wire.chunk(DONE)
        await wire.end()

    backend.script = large
    gateway = make_gateway(routing=FAST)
    with gateway.http.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as reply:
        chunks = reply.iter_raw()
        next(chunks)
        eventually(lambda: sent > 20)
        until_s = time.monotonic() + 1.2
        while time.monotonic() < until_s:
            assert 'hxp_gateway_ejections_total{model="mixtral"' in metrics(gateway)
            assert not re.search(r"hxp_gateway_ejections_total.* [1-9]", metrics(gateway))
        assert sent < 256, "the client's slowness has reached the server"
        rest = b"".join(chunks)
    assert rest.endswith(DONE)


@pytest.mark.parametrize(
    "behaviour", ["killed_before_first_byte", "closed_before_first_byte", "status_500", "not_http"]
)
def test_failures_before_the_first_byte_are_retried_within_the_budget(pair: Pair, behaviour: str) -> None:
    """At most a tenth of the requests, and one, are sent twice; then the breaker spares the rest."""
    pair.servers[0].behave(behaviour)

    statuses = pair.many(60)

    retries = pair.value("hxp_gateway_retries_total")
    assert 1 <= retries <= 7
    assert statuses[200] >= 50
    assert set(statuses) <= {200, 502}
    pair.out(0, "failing")
    assert sum(map(answered, pair.servers)) <= 60 + retries
    pair.servers[0].behave("healthy")
    pair.back_within(0)


def test_nothing_is_retried_behind_the_first_byte(pair: Pair) -> None:
    """A stream that was cut is told as cut; the other server never sees that request."""
    for each in pair.servers:
        each.behave("killed_mid_stream")

    replies = [pair.post(number, stream=True) for number in range(4)]

    assert all(b'"code":"upstream_failed"' in each.content for each in replies)
    assert pair.value("hxp_gateway_retries_total") == 0
    eventually(lambda: sum(map(answered, pair.servers)) == 4)


def test_a_server_that_flaps_between_load_and_service_stays_in(pair: Pair) -> None:
    """503s are load: others take those requests, within the budget, and no breaker opens."""
    pair.servers[0].behave("flapping")
    statuses = pair.many(30)
    assert statuses[200] >= 25
    assert set(statuses) <= {200, 503}
    assert pair.value("hxp_gateway_ejections_total") == 0


def test_load_is_told_with_its_retry_after(pair: Pair) -> None:
    """When every server is overloaded the client hears 429 and when to come back; nobody is ejected for it."""
    for each in pair.servers:
        each.behave("status_429")
    replies = [pair.post(number) for number in range(20)]
    assert {(each.status_code, each.headers["retry-after"]) for each in replies} == {(429, "1")}
    assert pair.value("hxp_gateway_retries_total") <= 3
    assert pair.value("hxp_gateway_ejections_total") == 0
    for each in pair.servers:
        each.behave("healthy")
    assert pair.many(5) == {200: 5}


def test_an_overloaded_server_rests(pair: Pair) -> None:
    """After a 429 with Retry-After the other server is asked first."""
    pair.servers[0].behave("status_429")
    assert set(pair.many(20)) <= {200, 429}
    assert answered(pair.servers[0]) <= 3


def test_a_slow_start_is_no_fault(make_pair: MakePair) -> None:
    """A first byte that is late, and not too late, costs nobody anything."""
    pair = make_pair({"whole_stalled_s": 3.0}, tick_s=0.2)
    pair.servers[0].behave("slow_start")
    assert pair.many(8) == {200: 8}
    assert pair.value("hxp_gateway_ejections_total") == 0
    assert pair.value("hxp_gateway_retries_total") == 0


def test_bad_requests_open_no_breaker(pair: Pair) -> None:
    """Fifty 400s in a row, and the servers are as trusted as before."""
    for each in pair.servers:
        each.behave("status_400")
    assert pair.many(50) == {400: 50}
    assert pair.value("hxp_gateway_ejections_total") == 0
    for each in pair.servers:
        each.behave("healthy")
    assert pair.many(5) == {200: 5}


def test_all_down_is_told_at_once_and_heals(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    """With no server left each client hears so quickly, it is logged once, and the first that is back serves."""
    with pair.proxies[0].toxic("down"), pair.proxies[1].toxic("down"):
        pair.out(0, "unhealthy")
        pair.out(1, "unhealthy")
        took_s = []
        for number in range(10):
            began = time.monotonic()
            reply = pair.post(number)
            took_s.append(time.monotonic() - began)
            assert reply.status_code in (502, 503)
        assert sorted(took_s)[5] < 1.0  # a connection that is waited for takes longer
        assert pair.gateway.http.get("/health/live").status_code == 200
        assert pair.gateway.http.get("/health/ready").status_code == 503
    pair.back_within(0)
    assert pair.many(5) == {200: 5}
    assert sum("has no server to trust" in each.message for each in caplog.records) == 1


def test_more_than_a_few_at_once_do_not_try_a_model_that_is_out(make_pair: MakePair) -> None:
    """While no server can be trusted the rest is refused within 100 ms, with Retry-After, and holds no place."""
    pair = make_pair({"whole_stalled_s": 60, "breaker_failures": 1, "breaker_of": 1, "breaker_open_s": 60})
    for each in pair.servers:
        each.behave("closed_before_first_byte")
    pair.many(4)
    for each in pair.servers:
        each.behave("headers_never_come")
    with ThreadPoolExecutor(4) as threads:
        trials = [threads.submit(pair.post, number) for number in range(4)]
        eventually(lambda: pair.value("hxp_gateway_server_in_flight") == 4)
        began = time.monotonic()
        reply = pair.post()
        assert time.monotonic() - began < 0.1
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
        assert reply.json()["error"]["code"] == "model_unavailable"
        for proxy in pair.proxies:
            proxy.add("reset_peer", timeout_s=0.0)
        assert {each.result().status_code for each in trials} == {502}
    eventually(lambda: pair.value("hxp_gateway_server_in_flight") == 0)


def test_a_fault_of_one_model_leaves_the_others_alone(make_gateway: MakeGateway) -> None:
    """A model that hangs takes its share of places and no more: the other has no error, whatever waits."""
    with ThreadPoolExecutor(16) as threads, Scripted() as well:
        with Scripted("headers_never_come") as hung:
            upstreams = {"mixtral": {"base_url": hung.base_url}, "phi3": {"base_url": well.base_url}}
            gateway = make_gateway(upstreams=upstreams, limits={"in_flight": 8}, routing={"model_share": 0.5})
            stuck = [threads.submit(gateway.post, chat()) for _ in range(16)]
            eventually(lambda: sum(each.done() for each in stuck) == 12)
            others = [gateway.post(chat(model="phi3")) for _ in range(10)]
            turned_away = [each.result().status_code for each in stuck if each.done()]
        served = [each.result().status_code for each in stuck]  # its server is gone, so nobody waits for it
    assert {each.status_code for each in others} == {200}
    assert turned_away == [503] * 12
    assert set(served) <= {502, 503}
