"""What clients see of the line before a model whose servers are full: on real sockets."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import httpx
import pytest

from hxp_harness.faults.backend import Backend as Scripted
from tests.reference_stack.infrastructure.conftest import (
    ALICE,
    WHOLE,
    Backend,
    Gateway,
    MakeGateway,
    Wire,
    chat,
    eventually,
    metrics,
)


def line_of(make_gateway: MakeGateway, server: Scripted, **routing: object) -> Gateway:
    """A gateway before one server that takes one request at a time."""
    upstreams = {"mixtral": {"base_url": server.base_url, "max_in_flight": 1}}
    return make_gateway(upstreams=upstreams, key_rows=ALICE, routing=routing)


@dataclass
class Waits:
    """A script that answers when it is told to."""

    release: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, wire: Wire) -> None:
        await self.release.wait()
        await wire.answer(WHOLE)


def one_at_a_time(make_gateway: MakeGateway, backend: Backend) -> Gateway:
    return make_gateway(upstreams={"mixtral": {"base_url": backend.url, "max_in_flight": 1}}, key_rows=ALICE)


def test_requests_wait_in_line_and_are_served_in_order(make_gateway: MakeGateway, backend: Backend) -> None:
    """What does not fit at once waits and is served first come, first served."""
    backend.script = waits = Waits()
    gateway = one_at_a_time(make_gateway, backend)
    with ThreadPoolExecutor(8) as threads:
        replies = []
        for number in range(6):
            replies.append(threads.submit(gateway.post, chat(user=str(number))))
            eventually(partial(told, gateway, f'hxp_gateway_line{{model="mixtral"}} {number}.0'))
            eventually(lambda: "} 1.0" in in_flight(gateway))
        backend.call(waits.release.set)
        assert {each.result().status_code for each in replies} == {200}
    assert [each.json["user"] for each in backend.asked] == [str(number) for number in range(6)]


def told(gateway: Gateway, series: str) -> bool:
    return series in metrics(gateway)


def test_a_full_line_and_a_long_wait_are_told(make_gateway: MakeGateway) -> None:
    """Beyond the line the answer is 503 with Retry-After within 100 ms; in line it comes when the time is up."""
    with Scripted("headers_never_come") as server, ThreadPoolExecutor(2) as threads:
        gateway = line_of(make_gateway, server, line=1, line_s=0.5)
        gateway.http.timeout = httpx.Timeout(3.0)
        served = threads.submit(gateway.post, chat())
        eventually(lambda: 'hxp_gateway_server_in_flight{model="mixtral",server="' in metrics(gateway))
        eventually(lambda: "} 1.0" in in_flight(gateway))
        waits = threads.submit(gateway.post, chat())
        eventually(lambda: 'hxp_gateway_line{model="mixtral"} 1.0' in metrics(gateway))
        began = time.monotonic()
        turned_away = gateway.post(chat())
        assert time.monotonic() - began < 0.1
        for reply in (turned_away, waits.result()):
            assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
            assert reply.json()["error"]["code"] == "model_overloaded"
        assert 'hxp_gateway_shed_total{model="mixtral",why="line"} 1.0' in metrics(gateway)
        assert 'hxp_gateway_shed_total{model="mixtral",why="waited"} 1.0' in metrics(gateway)
        with pytest.raises(httpx.ReadTimeout):
            served.result()


def in_flight(gateway: Gateway) -> str:
    return next(each for each in metrics(gateway).splitlines() if each.startswith("hxp_gateway_server_in_flight{"))


def test_who_leaves_the_line_leaves_nothing_behind(make_gateway: MakeGateway, backend: Backend) -> None:
    """Clients that give up while they wait take no place when one comes free."""
    backend.script = waits = Waits()
    gateway = one_at_a_time(make_gateway, backend)
    with ThreadPoolExecutor(9) as threads:
        first = threads.submit(gateway.post, chat())
        eventually(lambda: "} 1.0" in in_flight(gateway))
        path = "/v1/chat/completions"
        gone = [threads.submit(gateway.http.post, path, json=chat(), timeout=0.3) for _ in range(8)]
        assert all(isinstance(each.exception(), httpx.TimeoutException) for each in gone)
        eventually(partial(told, gateway, 'hxp_gateway_line{model="mixtral"} 0.0'))
        backend.call(waits.release.set)
        assert first.result().status_code == 200
    assert gateway.post(chat()).status_code == 200
    eventually(lambda: "} 0.0" in in_flight(gateway))
    assert len(backend.asked) == 2
