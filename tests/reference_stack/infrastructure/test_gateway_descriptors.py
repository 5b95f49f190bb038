"""More clients at once than the gateway has room for: each is served whole, or told at once to come back."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from reference_stack.schemas.configuration.api_gateway import LimitSettings
from reference_stack.services.infrastructure.api_gateway.descriptors import SPARE, within
from tests.reference_stack.infrastructure.gateway_processes import CHAT, KEY, held_open, served

ROOM = 100
CLIENTS = 200
LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({most}, {most}))
os.execv(sys.argv[1], sys.argv[1:])
"""


@given(st.integers(1, 20_000), st.integers(1, 20_000), st.integers(0, 50_000))
def test_limits_fit_the_descriptors(connections: int, in_flight: int, descriptors: int) -> None:
    """Each connection and each request in flight has its descriptor; no limit grows, and none is cut without need."""
    limits = LimitSettings(connections=connections, in_flight=in_flight)
    found = within(limits, descriptors)
    assert 1 <= found.connections <= connections
    assert 1 <= found.in_flight <= in_flight
    assert found.connections + found.in_flight <= max(descriptors - SPARE, 2)
    assert found is limits or connections + in_flight > descriptors - SPARE


async def test_nobody_is_lost_among_too_many(backend: Any, tmp_path: Path) -> None:
    """With few descriptors and twice as many streams at once, each ends whole, or is told 503 with Retry-After."""
    gate = asyncio.Event()
    backend.script = held_open(gate, backend.script)
    limited = (sys.executable, "-c", LIMITED.format(most=SPARE + ROOM))
    with served(tmp_path, backend.url, under=limited, workers=1) as gateway:
        assert f"allow connections: {ROOM // 2} and in_flight: {ROOM // 2}" in gateway.log
        begun: asyncio.Queue[bytes] = asyncio.Queue()
        clients = [asyncio.create_task(_answer(gateway.port, begun)) for _ in range(CLIENTS)]
        statuses = Counter([await begun.get() for _ in clients])
        # The health checks of the test's own may have a connection as well.
        assert ROOM // 2 - 2 <= statuses[b"200"] <= ROOM // 2
        assert statuses == {b"200": statuses[b"200"], b"503": CLIENTS - statuses[b"200"]}
        backend.call(gate.set)
        answers = await asyncio.gather(*clients)
        assert sum(each.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n") for each in answers) == statuses[b"200"]
        assert sum(b"\r\nretry-after: 1\r\n" in each for each in answers) == statuses[b"503"]
        assert gateway.counts()["hxp_gateway_server_in", tuple(_server_labels(backend.url))] == 1.0


def _server_labels(url: str) -> list[tuple[str, str]]:
    return [("model", "mixtral"), ("server", url.removeprefix("http://").removesuffix("/v1"))]


async def _answer(port: int, begun: asyncio.Queue[bytes]) -> bytes:
    """Ask for a stream; tell its status when it has begun, and return all of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps({**CHAT, "stream": True}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n"
    writer.write(f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
    first = await reader.readuntil(b"\r\n\r\n")
    begun.put_nowait(first.split(b" ")[1])
    rest = await reader.read()
    writer.close()
    return first + rest
