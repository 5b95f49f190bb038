"""The relay as an ASGI server's client sees it: what the relay tells is queued, and sent as fast as it is taken."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from reference_stack.services.infrastructure.api_gateway.body import read_body
from reference_stack.services.infrastructure.api_gateway.call import call_of
from reference_stack.services.infrastructure.api_gateway.client import LAST_WORD_S
from reference_stack.services.infrastructure.api_gateway.head import Head
from reference_stack.services.infrastructure.api_gateway.refusal import Refusal
from reference_stack.services.infrastructure.api_gateway.relay import Relay
from reference_stack.services.infrastructure.api_gateway.story import Story
from reference_stack.services.infrastructure.api_gateway.wire.pool import Pool

# More than this is not held for a client that reads slowly; the model is slowed down instead.
_MOST_QUEUED_BYTES = 64 * 1024


class ClientGone(Exception):
    """The client closed its connection; nobody waits for an answer."""


class Relayed(Response):
    """A response that is the relay itself: FastAPI picks the route, and the bytes go past it."""

    def __init__(self, story: Story, pool: Pool) -> None:
        self._story = story
        self._pool = pool
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one authenticated request. Raises Refusal while nothing was sent, and ClientGone."""
        story, call = self._story, call_of(scope)
        story.enter()
        try:
            story.check_kind(Head(scope["headers"]))
            asked = story.read(call, await read_body(scope["headers"], receive, story.limits))
            client = _Client(send)
            await client.serve(Relay(story, self._pool, call, asked, client), receive)
        finally:
            story.leave()


class _Client:
    """Implements the relay's Client on an ASGI `send`."""

    _relay: Relay
    _last_word: asyncio.Timeout
    _watcher: asyncio.Task[None]

    def __init__(self, send: Send) -> None:
        self._send = send
        self._queue: deque[Message] = deque()
        self._queued_bytes = 0
        self._news = asyncio.Event()
        self._refusal: Refusal | None = None
        self._complete = False
        self._left = False

    async def serve(self, relay: Relay, receive: Receive) -> None:
        """Start the relay and send what it tells, until it is over or the client leaves."""
        self._relay = relay
        self._watcher = asyncio.ensure_future(self._watch(receive))
        try:
            async with asyncio.timeout(None) as self._last_word:
                relay.start()
                await self._pump()
        except TimeoutError:
            raise ClientGone from None
        finally:
            relay.gone()
            self._watcher.cancel()

    async def _pump(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._queue and not self._left:
                message = self._queue.popleft()
                await self._send(message)
                self._queued_bytes -= len(message.get("body", b""))
                if self._queued_bytes <= _MOST_QUEUED_BYTES:
                    self._relay.resume()
            if self._refusal is not None:
                raise self._refusal
            if self._left:
                raise ClientGone
            if self._complete:
                return

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._left = True
        self._relay.gone()
        self._news.set()

    def _tell(self, message: Message) -> None:
        self._queue.append(message)
        self._queued_bytes += len(message.get("body", b""))
        if self._queued_bytes > _MOST_QUEUED_BYTES:
            self._relay.pause()
        self._news.set()

    # What the relay tells.

    def whole(self, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        length = (b"content-length", str(len(body)).encode())
        self._tell({"type": "http.response.start", "status": 200, "headers": [headers[0], length, *headers[1:]]})
        self.last(body)

    def begin(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        self._tell({"type": "http.response.start", "status": 200, "headers": list(headers)})

    def part(self, data: bytes) -> None:
        self._tell({"type": "http.response.body", "body": data, "more_body": True})

    @property
    def takes_chunks(self) -> None:
        return None  # the server behind `send` frames them

    def last(self, data: bytes) -> None:
        # From here on it may go: it has its answer. uvicorn tells a disconnect as well once an answer is sent.
        self._watcher.cancel()
        self._complete = True
        self._tell({"type": "http.response.body", "body": data})

    def broken(self, event: bytes) -> None:
        self._last_word.reschedule(asyncio.get_running_loop().time() + LAST_WORD_S)
        self.last(event)

    def refuse(self, refusal: Refusal) -> None:
        self._refusal = refusal
        self._news.set()
