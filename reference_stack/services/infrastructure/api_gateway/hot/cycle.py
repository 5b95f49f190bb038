"""One completion on the short way: the story without ASGI between it and the socket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import cast

from starlette.requests import ClientDisconnect
from starlette.types import Receive
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from reference_stack.services.infrastructure.api_gateway.body import read_body
from reference_stack.services.infrastructure.api_gateway.call import Call
from reference_stack.services.infrastructure.api_gateway.edge import CLIENT_GONE, check_head
from reference_stack.services.infrastructure.api_gateway.hot.door import Door, lines
from reference_stack.services.infrastructure.api_gateway.mistake import log_mistake, our_mistake
from reference_stack.services.infrastructure.api_gateway.ports import in_task
from reference_stack.services.infrastructure.api_gateway.refusal import JSON, Refusal
from reference_stack.services.infrastructure.api_gateway.relay import Relay
from reference_stack.services.infrastructure.api_gateway.wire.drive import drive

Headers = Sequence[tuple[bytes, bytes]]


class Way:
    """What a cycle has of its connection: where it writes, and who hears of its end."""

    def __init__(self, door: Door, transport: asyncio.Transport, flow: object, defaults: Callable[[], Headers]) -> None:
        self.door = door
        self.transport = transport
        self.flow = flow
        self.defaults = defaults


class HotCycle(RequestResponseCycle):
    """Stands where uvicorn expects one of its own cycles, so that order and pipelining are uvicorn's.

    Implements the relay's Client. `on_response` is called once, when the answer is written, and closes the connection
    where it is not kept; `on_broken` when the last
    of a failed stream is.
    """

    def __init__(
        self,
        way: Way,
        call: Call,
        headers: Headers,
        *,
        keep_alive: bool,
        expect_100_continue: bool,
        on_response: Callable[[], None],
        on_broken: Callable[[], None],
    ) -> None:
        self.transport = way.transport
        self.flow = way.flow  # type: ignore[assignment] # uvicorn's own, which it gave us
        self.message_event = asyncio.Event()
        self.on_response = on_response
        self.disconnected = False
        self.keep_alive = keep_alive
        self.waiting_for_100_continue = expect_100_continue
        self.body = b""  # type: ignore[assignment] # bytes until a second piece comes
        self.more_body = True
        self.response_started = self.response_complete = False
        self.relay: Relay | None = None
        self._way = way
        self._call = call
        self._headers = headers
        self._on_broken = on_broken
        self._entered = False
        self._head = b""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if not self.disconnected:
            self._task = drive(self._serve())

    def gone(self) -> None:
        """The client has closed its connection."""
        self.disconnected = True
        self.message_event.set()
        if self.relay is not None and not self.response_complete:
            self.relay.gone()
            self._left()

    async def _serve(self) -> None:
        door, call, headers = self._way.door, self._call, self._headers
        story = door.story
        try:
            check_head(headers, story.limits.header_bytes)
            await story.admit(call, headers)
            story.enter()
            self._entered = True
            story.check_kind(headers)
            asked = story.read(call, await self._whole_body())
        except ClientDisconnect:
            self._left()
        except Refusal as refusal:
            self.refuse(refusal)
        except Exception as error:  # noqa: BLE001 - a client is told of any mistake of ours in the same shape
            log_mistake(error, call)
            self.refuse(our_mistake())
        else:
            self.relay = Relay(story, door.pool, call, asked, self)
            self.relay.start()

    async def _whole_body(self) -> bytes:
        limits = self._way.door.limits
        if self.more_body or self.waiting_for_100_continue or len(self.body) > limits.body_bytes:
            await in_task()
            return await read_body(self._headers, cast("Receive", self.receive), limits)
        if self.disconnected:
            raise ClientDisconnect
        return bytes(self.body)

    def _left(self) -> None:
        self._call.status = self._call.status or CLIENT_GONE
        self._call.error = "client_gone"
        self.response_complete = True
        self._settle()

    # What the relay tells.

    def whole(self, headers: Headers, body: bytes) -> None:
        length = b"content-length: %d\r\n" % len(body)
        self._write(b"%b\r\n%b" % (self._lines(200, headers[:1], length, headers[1:]), body))
        self._end()

    def begin(self, headers: Headers) -> None:
        self._head = self._lines(200, headers) + b"transfer-encoding: chunked\r\n\r\n"

    def part(self, data: bytes) -> None:
        head, self._head = self._head, b""
        self._write(b"%b%x\r\n%b\r\n" % (head, len(data), data))

    def chunk(self, wire: bytes, _at: int) -> None:
        if not self.disconnected:
            self.transport.write(wire)  # our framing is the same

    def last(self, data: bytes) -> None:
        head, self._head = self._head, b""
        chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        self._write(b"%b%b0\r\n\r\n" % (head, chunk))
        self._end()

    def broken(self, event: bytes) -> None:
        self._on_broken()
        self.last(event)

    def refuse(self, refusal: Refusal) -> None:
        self._call.error = refusal.code
        body = refusal.body(self._call.shown_id)
        length = b"content-length: %d\r\n" % len(body)
        more = tuple(refusal.headers().items())
        head = self._lines(refusal.status, ((b"content-type", JSON),), length, more, closes=refusal.close)
        self.keep_alive = self.keep_alive and not refusal.close
        self._write(b"%b\r\n%b" % (head, body))
        self._end()

    def _lines(
        self, status: int, headers: Headers, length: bytes = b"", more: Headers = (), *, closes: bool = False
    ) -> bytes:
        """Return the status line and the headers; `closes` says that they tell of the connection's end already."""
        call = self._call
        self.response_started = True
        call.status = status
        call.first_byte_s = time.perf_counter() - call.began_s
        self.waiting_for_100_continue = False
        return b"%b%b%b%b%b%bx-request-id: %b\r\n%b" % (
            STATUS_LINE[status],
            self._way.door.default_lines(self._way.defaults()),
            lines(headers),
            length,
            lines(more),
            lines(call.headers),
            call.shown_id.encode(),
            b"" if self.keep_alive or closes else b"connection: close\r\n",
        )

    def _write(self, data: bytes) -> None:
        if not self.disconnected:
            self.transport.write(data)

    def _end(self) -> None:
        self.response_complete = True
        self.message_event.set()
        self._settle()
        self.on_response()

    def _settle(self) -> None:
        self.relay = None  # it knows this cycle as its client
        if self._entered:
            self._way.door.story.leave()
        self._way.door.settlement.settle(self._call)
