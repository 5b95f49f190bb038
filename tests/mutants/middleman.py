"""A server in front of a sound one that changes what is asked or answered: how a sound server becomes a broken one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import httpx

from hxp_harness.faults.background import Background
from hxp_harness.faults.listener import Listener
from hxp_harness.target import Target

_ITS_OWN = {"content-length", "transfer-encoding", "connection", "host"}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Said:
    """The whole answer to it."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def as_it_was(asked: Asked) -> Asked:
    return asked


def as_it_came(_: Asked, said: Said) -> Said:
    return said


@dataclass(frozen=True, slots=True)
class Change:
    """How the middleman breaks the server."""

    asks: Callable[[Asked], Asked] = as_it_was
    says: Callable[[Asked, Said], Said] = as_it_came
    where: str = ""  # only what has a path that begins so; the rest goes through as it is
    deaf: bool = False  # relay as it comes, and read on when the client has left


class Middleman:
    """Relays bytes as they come, or whole answers with a `change`."""

    def __init__(self, port: int, change: Change | None) -> None:
        self._port = port
        self._change = change

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one request of one connection."""
        try:
            asked = await _read(reader)
            change = self._change
            if change is None or change.deaf or not asked.path.startswith(change.where):
                await self._splice(asked, reader, writer)
            else:
                said = await self._answer(asked, change)
                writer.write(_head(f"HTTP/1.1 {said.status} X", said.headers, said.body) + said.body)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            return  # the client left

    async def _answer(self, asked: Asked, change: Change) -> Said:
        asked = change.asks(asked)
        async with httpx.AsyncClient(timeout=30, trust_env=False, verify=False) as client:
            url = f"http://127.0.0.1:{self._port}{asked.path}"
            got = await client.request(asked.method, url, content=asked.body, headers=dict(asked.headers))
        return change.says(asked, Said(got.status_code, dict(got.headers), got.content))

    async def _splice(self, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relay one answer to its end; a client that leaves is passed on at once."""
        back, forth = await asyncio.open_connection("127.0.0.1", self._port)
        relay = asyncio.create_task(_copy(back, writer))
        left = asyncio.create_task(reader.read(1))
        try:
            head = _head(f"{asked.method} {asked.path} HTTP/1.1\r\nhost: middleman", asked.headers, asked.body)
            forth.write(head + asked.body)
            deaf = self._change is not None and self._change.deaf
            await asyncio.wait((relay,) if deaf else (relay, left), return_when=asyncio.FIRST_COMPLETED)
        finally:
            relay.cancel()
            left.cancel()
            forth.transport.abort()
            await asyncio.gather(relay, left, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while part := await reader.read(1 << 16):
        with suppress(OSError):  # whoever does not cancel this wants it read to the end
            if not writer.is_closing():
                writer.write(part)
                await writer.drain()


async def _read(reader: asyncio.StreamReader) -> Asked:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip("\r\n").split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Asked(method, path, {name: value for name, value in headers.items() if name not in _ITS_OWN}, body)


def _head(first: str, headers: Mapping[str, str], body: bytes) -> bytes:
    kept = [f"{name}: {value}" for name, value in headers.items() if name.lower() not in _ITS_OWN]
    return "\r\n".join([first, *kept, f"content-length: {len(body)}", "connection: close", "", ""]).encode("latin-1")


@contextmanager
def in_front_of(target: Target, change: Change | None) -> Iterator[Target]:
    """Yield `target` behind a middleman; without a change it is as it was."""
    listener = Listener(Middleman(target.port, change).talk)
    with Background() as background:
        port = background.run(listener.open(limit=1 << 20))
        root = f"http://127.0.0.1:{port}"
        try:
            path = urlsplit(target.base_url).path
            yield replace(target, base_url=root + path, metrics_url=f"{root}/metrics")
        finally:
            background.run(listener.close())
