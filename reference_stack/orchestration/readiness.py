"""Is it serving? Asked in the server's own protocol; the answer is "" or the reason why not."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

Probe = Callable[[], Awaitable[str]]
_ANSWER_S = 2.0
_LARGEST_ANSWER = 65536


def http(url: str) -> Probe:
    """Ready when a GET of `url` answers 200."""
    parts = urlsplit(url)
    host, port, path = parts.hostname or "", parts.port or 80, parts.path or "/"

    async def probe() -> str:
        request = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
        answer = await _exchange(host, port, request.encode(), whole=True)
        head, _, body = answer.partition(b"\r\n\r\n")
        status = head.split(b"\r\n", 1)[0].decode("latin-1")
        if status.split(" ")[1:2] == ["200"]:
            return ""
        return f"GET {path} answers {status!r}{_dependencies(body)}"

    return _patient(probe)


def _dependencies(body: bytes) -> str:
    try:
        found = json.loads(body)["dependencies"]
        return "".join(f"; {name}: {reason}" for name, reason in found.items() if reason)
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""


def redis(host: str, port: int) -> Probe:
    """Ready when PING answers PONG: a server that is still loading its data does not."""

    async def probe() -> str:
        answer = await _exchange(host, port, b"PING\r\n")
        return "" if answer.startswith(b"+PONG") else f"PING answers {answer[:80]!r}"

    return _patient(probe)


def postgres(host: str, port: int, user: str, database: str) -> Probe:
    """Ready when a session is let in (protocol 3.0, authentication asked for or granted)."""
    pairs = b"".join(text.encode() + b"\0" for text in ("user", user, "database", database))
    body = struct.pack("!i", 196608) + pairs + b"\0"

    async def probe() -> str:
        answer = await _exchange(host, port, struct.pack("!i", len(body) + 4) + body)
        if answer.startswith(b"R"):
            return ""
        fields = [part[1:].decode("utf-8", "replace") for part in answer[5:].split(b"\0") if part[:1] == b"M"]
        return fields[0] if fields else f"the server answers {answer[:40]!r}"

    return _patient(probe)


async def _exchange(host: str, port: int, request: bytes, *, whole: bool = False) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(request)
        await writer.drain()
        return await reader.read(-1 if whole else _LARGEST_ANSWER)
    finally:
        writer.transport.abort()


def _patient(probe: Probe) -> Probe:
    async def bounded() -> str:
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await probe()
        except TimeoutError:
            return f"no answer in {_ANSWER_S:g} s"
        except OSError as error:
            return f"{type(error).__name__}: {error.strerror or error}"

    return bounded
