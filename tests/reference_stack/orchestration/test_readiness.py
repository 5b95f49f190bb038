"""Promises of the readiness probes, against servers that answer as scripted."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from hxp_harness.faults.listener import Listener
from reference_stack.orchestration import ports, readiness
from reference_stack.orchestration.readiness import Probe


@asynccontextmanager
async def answering(answer: bytes | None) -> AsyncIterator[int]:
    """A server that reads once and sends `answer` (None: nothing, and keeps the connection)."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.read(1024)
            if answer is None:
                await reader.read(-1)
            else:
                writer.write(answer)

    listener = Listener(talk)
    try:
        yield await listener.open()
    finally:
        await listener.close()


def _error(message: bytes) -> bytes:
    body = b"SFATAL\0C57P03\0M" + message + b"\0\0"
    return b"E" + struct.pack("!i", len(body) + 4) + body


def over_http(port: int) -> Probe:
    return readiness.http(f"http://127.0.0.1:{port}/health/ready")


def over_redis(port: int) -> Probe:
    return readiness.redis("127.0.0.1", port)


def over_postgres(port: int) -> Probe:
    return readiness.postgres("127.0.0.1", port, "me", "mine")


@pytest.mark.parametrize(
    ("probe", "answer", "reason"),
    [
        (over_http, b"HTTP/1.1 200 OK\r\n\r\n{}", ""),
        (over_http, b"HTTP/1.1 503 No\r\n\r\n", "GET /health/ready answers 'HTTP/1.1 503 No'"),
        (
            over_http,
            b'HTTP/1.1 503 No\r\n\r\n{"dependencies": {"cache": "", "postgresql": "refused"}}',
            "GET /health/ready answers 'HTTP/1.1 503 No'; postgresql: refused",
        ),
        (over_http, b'HTTP/1.1 503 No\r\n\r\n["dependencies"]', "GET /health/ready answers 'HTTP/1.1 503 No'"),
        (over_http, b"SSH-2.0-OpenSSH\r\n", "GET /health/ready answers 'SSH-2.0-OpenSSH'"),
        (over_redis, b"+PONG\r\n", ""),
        (over_redis, b"-LOADING data\r\n", "PING answers b'-LOADING data\\r\\n'"),
        (over_postgres, b"R\0\0\0\x08\0\0\0\0", ""),
        (over_postgres, _error(b"the database system is starting up"), "the database system is starting up"),
        (over_postgres, b"", "the server answers b''"),
    ],
)
async def test_only_the_right_answer_is_ready(probe: Callable[[int], Probe], answer: bytes, reason: str) -> None:
    """A probe is satisfied by its protocol's good answer and gives every other as the reason."""
    async with answering(answer) as port:
        assert await probe(port)() == reason


@pytest.mark.parametrize("probe", [over_http, over_redis, over_postgres])
async def test_nobody_there_is_a_reason(probe: Callable[[int], Probe]) -> None:
    """A refused connection is a reason, not an exception."""
    reservation = ports.reserve()
    assert (await probe(reservation.port)()).startswith("ConnectionRefusedError")
    reservation.close()


async def test_silence_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that accepts and says nothing is given up."""
    monkeypatch.setattr(readiness, "_ANSWER_S", 0.05)
    async with answering(None) as port:
        assert await over_redis(port)() == "no answer in 0.05 s"
