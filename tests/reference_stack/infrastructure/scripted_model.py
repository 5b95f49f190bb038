"""A model server that answers as a test tells it to."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from hxp_harness.faults.listener import Listener
from tests.reference_stack.infrastructure.serving import DEADLINE_S


@dataclass
class Asked:
    """One request as a scripted server saw it."""

    path: str
    headers: dict[str, str]
    body: bytes
    client_port: int
    gone_at_s: float | None = None

    @property
    def json(self) -> dict[str, object]:
        found = json.loads(self.body)
        assert isinstance(found, dict)
        return found


class Wire:
    """The open connection of one request, for a script to write on."""

    def __init__(
        self, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, keeps: bool
    ) -> None:
        self.asked = asked
        self.keeps = keeps
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def head(self, status: int = 200, kind: str = "application/json", *more: str) -> None:
        closes = () if self.keeps else ("connection: close",)
        lines = [f"HTTP/1.1 {status} X", f"content-type: {kind}", *more, *closes]
        await self.send("\r\n".join([*lines, "", ""]).encode())

    async def answer(self, body: bytes, status: int = 200, kind: str = "application/json", *more: str) -> None:
        await self.head(status, kind, f"content-length: {len(body)}", *more)
        await self.send(body)

    async def stream(self, *parts: bytes) -> None:
        """Begin an event stream and send each part as a chunk of its own, one read apart."""
        await self.head(200, "text/event-stream; charset=utf-8", "transfer-encoding: chunked")
        for part in parts:
            await self.chunk(part)

    async def chunk(self, data: bytes) -> None:
        await self.send(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await asyncio.sleep(0.002)

    async def end(self) -> None:
        await self.send(b"0\r\n\r\n")

    async def wait_gone(self) -> None:
        """Wait for the other side to close, and note when it did."""
        try:
            while await self._reader.read(1024):
                pass
        except OSError:
            pass
        self.asked.gone_at_s = time.monotonic()


Script = Callable[[Wire], Awaitable[None]]


def event(data: object) -> bytes:
    return b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n"


def text_event(text: str, finish: str | None = None) -> bytes:
    return event(
        {
            "object": "chat.completion.chunk",
            "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}],
        }
    )


USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
ROLE = event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
TEXTS = (ROLE, text_event("one"), text_event(" two"), text_event(" thrée", "length"))
USAGE_EVENT = event({"choices": [], "usage": USAGE})
DONE = event(b"[DONE]")
WHOLE = json.dumps({"id": "x", "choices": [{"index": 0, "message": {"content": "one two"}}], "usage": USAGE}).encode()


async def well(wire: Wire) -> None:
    """Answer as vLLM does."""
    if not wire.asked.json.get("stream"):
        await wire.answer(WHOLE)
        return
    options = wire.asked.json.get("stream_options")
    wanted = isinstance(options, dict) and options.get("include_usage")
    await wire.stream(*TEXTS, *([USAGE_EVENT] if wanted else []), DONE)
    await wire.end()


class Backend:
    """A scripted model server on a free port, on a thread of its own."""

    def __init__(self) -> None:
        self.script: Script = well
        self.healthy = True
        self.asked: list[Asked] = []
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(DEADLINE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()

    def call(self, function: Callable[[], object]) -> None:
        """Call `function` on the server's own loop."""
        self._loop.call_soon_threadsafe(function)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        listener = Listener(self._talk)
        self.url = f"http://127.0.0.1:{await listener.open()}/v1"
        self._started.set()
        await self._stop.wait()
        await listener.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while await self._one(reader, writer):
                pass
        writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        path = head[0].split(" ")[1]
        if path == "/health":
            writer.write(b"HTTP/1.1 %d X\r\ncontent-length: 0\r\n\r\n" % (200 if self.healthy else 503))
            return True
        asked = Asked(
            path,
            headers,
            await reader.readexactly(int(headers.get("content-length", "0"))),
            writer.get_extra_info("peername")[1],
        )
        self.asked.append(asked)
        script = self.script
        wire = Wire(asked, reader, writer, keeps=script is well)
        await script(wire)
        return wire.keeps
