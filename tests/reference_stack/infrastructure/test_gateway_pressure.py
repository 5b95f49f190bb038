"""What many clients at once, and many that leave, do to the gateway: nothing is kept of any of them."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import socket
import struct
import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from reference_stack.services.infrastructure.api_gateway.call import Call
from reference_stack.services.infrastructure.api_gateway.hot.cycle import HotCycle
from reference_stack.services.infrastructure.api_gateway.hot.protocol import GatewayProtocol
from reference_stack.services.infrastructure.api_gateway.relay import Relay
from reference_stack.services.infrastructure.api_gateway.routing.pool import Place
from reference_stack.services.infrastructure.api_gateway.routing.router import Held
from reference_stack.services.infrastructure.api_gateway.wire.connection import Connection
from reference_stack.services.infrastructure.api_gateway.wire.exchange import Exchange
from tests.reference_stack.infrastructure.conftest import (
    DONE,
    KEY,
    ROLE,
    TEXTS,
    WHOLE,
    Gateway,
    MakeGateway,
    Wire,
    chat,
    eventually,
    raw,
    text_event,
    well,
)

# Short forms for CI; `nox -s gateway_fuzz` asks for more.
LONG = "HXP_GATEWAY_CASES" in os.environ
ABORTS = 10_000 if LONG else 300
RACE_S = 5.0 if LONG else 1.0
STREAMS = 2_000 if LONG else 300
HEAD = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n".encode()


def request(body: bytes) -> bytes:
    return HEAD + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def idle(gateway: Gateway) -> bool:
    return "hxp_gateway_in_flight 0.0" in gateway.http.get("/metrics").text


async def _dawdles(wire: Wire) -> None:
    """Answer in pieces, some way into which most clients have left."""
    wire.keeps = True
    if not wire.asked.json.get("stream"):
        await asyncio.sleep(0.003)
        await wire.answer(WHOLE)
        return
    await wire.stream(ROLE, *[text_event("word") for _ in range(5)], *TEXTS[-1:], DONE)
    await wire.end()


def _leave(gateway: Gateway, seed: int) -> None:
    """Send some of a request, read some of the answer, and go, politely or with a reset."""
    drawn = random.Random(seed)
    whole = request(json.dumps(chat(stream=drawn.random() < 0.6)).encode())
    with raw(gateway) as sock:
        sock.sendall(whole if drawn.random() < 0.8 else whole[: drawn.randrange(len(whole))])
        if drawn.random() < 0.6:
            sock.settimeout(drawn.choice((0.001, 0.01, 1.0)))
            with suppress(TimeoutError):
                sock.recv(drawn.choice((1, 100, 65536)))
        if drawn.random() < 0.5:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.owasp("LLM10:2025")
@pytest.mark.parametrize("hot_path", [True, False], ids=["hot", "fastapi"])
def test_aborts_leave_nothing(make_gateway: MakeGateway, hot_path: bool) -> None:
    """However clients leave, no place, connection or object of theirs stays; what the model saw is in the usage log."""
    gateway = make_gateway(hot_path=hot_path)
    gateway.backend.script = _dawdles
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seed: _leave(gateway, seed), range(ABORTS if hot_path else ABORTS // 3)))

    eventually(lambda: idle(gateway))
    asked = [each.headers["x-request-id"] for each in gateway.backend.asked]
    eventually(lambda: set(asked) <= {row.request_id for row in gateway.usage.rows})
    assert len({row.request_id for row in gateway.usage.rows}) == len(gateway.usage.rows)
    assert {row.outcome for row in gateway.usage.rows} >= {"cancelled", "complete"}
    kept = 10  # connections to the model: eight clients at once, and what has just been left
    most = {
        "GatewayProtocol": 2,
        "Connection": kept,
        "HotCycle": 2,
        "Relay": 1,
        "Exchange": 1,
        "Call": 2,
        "Held": 1,
        "Place": 1,
    }
    eventually(lambda: _alive() <= Counter(most))
    assert gateway.post(chat()).content == WHOLE


@pytest.mark.parametrize("hot_path", [True, False], ids=["hot", "fastapi"])
def test_a_connection_is_forgotten_with_its_end(make_gateway: MakeGateway, hot_path: bool) -> None:
    """Connections of clients and to servers are freed when they are closed, and need no garbage collector."""
    gateway = make_gateway(hot_path=hot_path)
    gateway.backend.script = _once
    before = _alive()
    gc.disable()
    try:
        for _ in range(20):
            with raw(gateway) as sock:
                sock.sendall(request(json.dumps(chat()).encode()))
                assert sock.recv(65536).startswith(b"HTTP/1.1 200")
        eventually(lambda: _alive(collected=False)["GatewayProtocol"] - before["GatewayProtocol"] <= 2)
        eventually(lambda: _alive(collected=False)["Connection"] - before["Connection"] <= 2)
    finally:
        gc.enable()


async def _once(wire: Wire) -> None:
    """Answer, and close the connection behind it."""
    wire.keeps = False
    await wire.answer(WHOLE)


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_is_forgotten_with_its_end(make_gateway: MakeGateway, stream: bool) -> None:
    """What belongs to a request is freed when it ends, and needs no garbage collector."""
    gateway = make_gateway()
    before = _alive()
    gc.disable()
    try:
        for _ in range(20):
            assert gateway.post(chat(stream=stream)).status_code == 200
        alive = _alive(collected=False)
    finally:
        gc.enable()
    assert 1 <= alive["HotCycle"] - before["HotCycle"] <= 2
    assert alive["Relay"] - before["Relay"] <= 1
    assert all(alive[name] - before[name] <= 2 for name in ("Call", "Held", "Place"))


def _alive(*, collected: bool = True) -> Counter[str]:
    if collected:
        gc.collect()
    kinds = (GatewayProtocol, Connection, HotCycle, Relay, Exchange, Call, Held, Place)
    return Counter(type(each).__name__ for each in gc.get_objects() if isinstance(each, kinds))


def test_a_kept_connection_that_closes_as_it_is_used(make_gateway: MakeGateway) -> None:
    """A server that closes kept connections at the worst moments costs no client an error."""
    gateway = make_gateway()

    async def leaves(wire: Wire) -> None:
        wire.keeps = True
        await well(wire)
        asyncio.get_running_loop().call_later(random.random() * 0.004, wire._writer.close)

    gateway.backend.script = leaves
    ends_s = time.monotonic() + RACE_S

    def use(seed: int) -> int:
        drawn, done = random.Random(seed), 0
        pause = threading.Event()
        while time.monotonic() < ends_s:
            assert gateway.post(chat()).content == WHOLE
            pause.wait(drawn.random() * 0.006)
            done += 1
        return done

    with ThreadPoolExecutor(4) as pool:
        done = sum(pool.map(use, range(4)))

    assert done > 50
    ports = [each.client_port for each in gateway.backend.asked]
    # Some connections were kept and used again, and others were closed: both sides of the race were met.
    assert done > len(set(ports)) > 4


@dataclass
class Crowd:
    """Clients that all stream at one time; `most_at_once` of them are on their way in, so that each gets through."""

    gateway: Gateway
    most_at_once: int = 50
    open: int = 0

    def run(self) -> list[bytes]:
        return asyncio.run(self._all())

    async def _all(self) -> list[bytes]:
        door = asyncio.Semaphore(self.most_at_once)
        return await asyncio.gather(*(self._one(door) for _ in range(STREAMS)))

    async def _one(self, door: asyncio.Semaphore) -> bytes:
        parts = urlsplit(self.gateway.url)
        async with door:
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            writer.write(request(json.dumps(chat(stream=True)).encode()))
            first = await reader.readuntil(ROLE)
        self.open += 1
        rest = await reader.readuntil(b"\r\n0\r\n\r\n")
        self.open -= 1
        writer.close()
        return first + rest

    def until(self, count: int, answers: Future[list[bytes]]) -> None:
        """Wait until so many are open, however long it takes while it goes on."""
        while self.open != count:
            was = self.open
            eventually(lambda: answers.done() or self.open != was, within_s=60)  # noqa: B023 - called at once
            if answers.done() and answers.exception():
                answers.result()


def test_many_streams_at_once(make_gateway: MakeGateway) -> None:
    """All streams are open at one time, and each gets every byte of its own answer."""
    gateway = make_gateway(timeout_s=3600)
    release = asyncio.Event()

    async def waits(wire: Wire) -> None:
        await wire.stream(ROLE)
        await release.wait()
        for part in (*TEXTS[1:], DONE):
            await wire.chunk(part)
        await wire.end()

    gateway.backend.script = waits
    crowd = Crowd(gateway)
    with ThreadPoolExecutor(1) as pool:
        streams = pool.submit(crowd.run)
        crowd.until(STREAMS, streams)
        assert f"hxp_gateway_in_flight {STREAMS}.0" in gateway.http.get("/metrics").text
        gateway.backend.call(release.set)
        crowd.until(0, streams)
        answers = streams.result()

    assert len(answers) == STREAMS
    for answer in answers:
        chunks = answer.partition(b"\r\n\r\n")[2].split(b"\r\n")[1::2]
        assert b"".join(chunks) == b"".join((*TEXTS, DONE))
    eventually(lambda: idle(gateway))
