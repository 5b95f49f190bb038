"""One completion on the short way: the story without ASGI between it and the socket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import cast

from starlette.requests import ClientDisconnect
from starlette.types import Receive
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle
from uvicorn.server import ServerState

from reference_stack.services.infrastructure.api_gateway.body import read_body
from reference_stack.services.infrastructure.api_gateway.call import Call
from reference_stack.services.infrastructure.api_gateway.edge import CLIENT_GONE
from reference_stack.services.infrastructure.api_gateway.head import Head
from reference_stack.services.infrastructure.api_gateway.hot.door import Door, fixed_lines, lines
from reference_stack.services.infrastructure.api_gateway.keys.ring import Shown
from reference_stack.services.infrastructure.api_gateway.mistake import log_mistake, our_mistake
from reference_stack.services.infrastructure.api_gateway.ports import in_task
from reference_stack.services.infrastructure.api_gateway.refusal import JSON, Refusal
from reference_stack.services.infrastructure.api_gateway.relay import Relay
from reference_stack.services.infrastructure.api_gateway.wire.drive import drive

Headers = Sequence[tuple[bytes, bytes]]


class Way:
    """What a cycle has of its connection: where it writes, and who hears of its end.

    `ended` is called once for each cycle, when its answer is written, and closes the connection where it is not kept;
    `broken` when the last of a failed stream is.
    """

    __slots__ = ("broken", "door", "ended", "flow", "server_state", "shown", "transport")

    def __init__(
        self,
        door: Door,
        transport: asyncio.Transport,
        flow: FlowControl,
        server_state: ServerState,
        ended: Callable[[], None],
        broken: Callable[[], None],
    ) -> None:
        self.door = door
        self.transport = transport
        self.flow = flow
        self.server_state = server_state
        self.ended = ended
        self.broken = broken
        self.shown = Shown()


class HotCycle(RequestResponseCycle):
    """Stands where uvicorn expects one of its own cycles, so that order and pipelining are uvicorn's.

    Implements the relay's Client.
    """

    def __init__(self, way: Way, call: Call, head: Head, *, keep_alive: bool, expect_100_continue: bool) -> None:
        self.transport = way.transport
        self.flow = way.flow
        self.disconnected = False
        self.keep_alive = keep_alive
        self.waiting_for_100_continue = expect_100_continue
        self.body = b""  # type: ignore[assignment] # bytes until a second piece comes
        self.more_body = True
        self.response_started = self.response_complete = False
        self.relay: Relay | None = None
        self._way = way
        self.call = call
        self.head = head
        self._entered = False
        self._event: asyncio.Event | None = None
        self._begun = b""
        self._task: asyncio.Task[None] | None = None

    @property
    def message_event(self) -> asyncio.Event:  # type: ignore[override] # few requests ever need theirs
        """What uvicorn's `receive` waits for; made when somebody is to wait."""
        if self._event is None:
            self._event = asyncio.Event()
            if self.body or self.disconnected or not self.more_body:
                self._event.set()
        return self._event

    def take(self, data: bytes) -> None:
        """Take a piece of the body; one is all there is, most often."""
        if self.response_complete:
            return
        if not self.body:
            self.body = data  # type: ignore[assignment] # bytes until a second piece comes
        else:
            self.body = bytearray(self.body) if isinstance(self.body, bytes) else self.body
            self.body += data
            if len(self.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
        if self._event is not None:
            self._event.set()

    def take_end(self) -> None:
        """Hear that the body is whole."""
        if not self.response_complete:
            self.more_body = False
            if self._event is not None:
                self._event.set()

    def start(self) -> None:
        if self.disconnected:
            return
        way, head = self._way, self.head
        try:
            head.check(way.door.limits.header_bytes)
            if way.door.story.recognise(self.call, head, way.shown):
                self._enter()
            else:
                self._task = drive(self._ask_key())
        except Exception as error:  # noqa: BLE001 - a client is told of any mistake of ours in the same shape
            self._stopped(error)

    def gone(self) -> None:
        """The client has closed its connection."""
        self.disconnected = True
        if self._event is not None:
            self._event.set()
        if self.relay is not None and not self.response_complete:
            self.relay.gone()
            self._left()

    async def _ask_key(self) -> None:
        try:
            await self._way.door.story.ask_key(self.call, self.head, self._way.shown)
            self._enter()
        except Exception as error:  # noqa: BLE001 - as above
            self._stopped(error)

    def _enter(self) -> None:
        story = self._way.door.story
        story.enter()
        self._entered = True
        story.check_kind(self.head)
        if self._has_all():
            self._pass_on(bytes(self.body))
        else:
            self._task = drive(self._read_rest())

    async def _read_rest(self) -> None:
        try:
            await in_task()
            self._pass_on(await read_body(self.head.headers, cast("Receive", self.receive), self._way.door.limits))
        except Exception as error:  # noqa: BLE001 - as above
            self._stopped(error)

    def _pass_on(self, body: bytes) -> None:
        door = self._way.door
        asked = door.story.read(self.call, body)
        self.relay = Relay(door.story, door.pool, self.call, asked, self)
        self.relay.start()

    def _stopped(self, error: Exception) -> None:
        """Tell the client why the relay does not begin."""
        if isinstance(error, ClientDisconnect):
            self._left()
        elif isinstance(error, Refusal):
            self.refuse(error)
        else:
            log_mistake(error, self.call)
            self.refuse(our_mistake())

    def _has_all(self) -> bool:
        """Whether the body is here and may be taken as it is."""
        if self.more_body or self.waiting_for_100_continue or self.disconnected:
            return False
        return len(self.body) <= self._way.door.limits.body_bytes

    def _left(self) -> None:
        self.call.status = self.call.status or CLIENT_GONE
        self.call.error = "client_gone"
        self.response_complete = True
        self._settle()

    # What the relay tells.

    def whole(self, headers: Headers, body: bytes) -> None:
        length = b"content-length: %d\r\n" % len(body)
        self._write(b"".join((self._lines(200, headers[:1], length, headers[1:]), b"\r\n", body)))
        self._end()

    def begin(self, headers: Headers) -> None:
        self._begun = self._lines(200, headers) + b"transfer-encoding: chunked\r\n\r\n"

    def part(self, data: bytes) -> None:
        head, self._begun = self._begun, b""
        self._write(b"%b%x\r\n%b\r\n" % (head, len(data), data))

    @property
    def takes_chunks(self) -> Callable[[bytes], object]:
        return self.transport.write

    def last(self, data: bytes) -> None:
        head, self._begun = self._begun, b""
        chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        self._write(b"%b%b0\r\n\r\n" % (head, chunk))
        self._end()

    def broken(self, event: bytes) -> None:
        self._way.broken()
        self.last(event)

    def refuse(self, refusal: Refusal) -> None:
        self.call.error = refusal.code
        body = refusal.body(self.call.shown_id)
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
        call = self.call
        self.response_started = True
        call.status = status
        call.first_byte_s = time.perf_counter() - call.began_s
        self.waiting_for_100_continue = False
        way = self._way
        parts = (
            STATUS_LINE[status],
            way.door.default_lines(way.server_state.default_headers),
            fixed_lines(headers),
            length,
            lines(more) if more else b"",
            call.lines,
            b"x-request-id: ",
            call.shown_id.encode(),
            b"\r\n" if self.keep_alive or closes else b"\r\nconnection: close\r\n",
        )
        return b"".join(parts)

    def _write(self, data: bytes) -> None:
        if not self.disconnected:
            self.transport.write(data)

    def _end(self) -> None:
        self.response_complete = True
        if self._event is not None:
            self._event.set()
        self._settle()
        self._way.ended()

    def _settle(self) -> None:
        self.relay = None  # it knows this cycle as its client
        if self._entered:
            self._way.door.story.leave()
        self._way.door.settlement.settle(self.call)
