"""uvicorn's HTTP protocol with deadlines and bounds of ours, and a short way for plain completions.

The deadlines and bounds hold for every request. A request takes the short way when it is a POST to a completion route
over HTTP/1.1, whatever the framing of its body; all else goes to uvicorn and the application untouched. The parser,
the order of answers and pipelining are uvicorn's own in both cases.
"""

from __future__ import annotations

from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from reference_stack.services.infrastructure.api_gateway.call import new_call
from reference_stack.services.infrastructure.api_gateway.client import LAST_WORD_S
from reference_stack.services.infrastructure.api_gateway.head import Head
from reference_stack.services.infrastructure.api_gateway.hot.cycle import HotCycle, Way
from reference_stack.services.infrastructure.api_gateway.hot.door import Door
from reference_stack.services.infrastructure.api_gateway.hot.ending import Ending
from reference_stack.services.infrastructure.api_gateway.hot.known import KnownHead, known_head
from reference_stack.services.infrastructure.api_gateway.hot.timed import NEVER
from reference_stack.services.infrastructure.api_gateway.hot.upgrade import head_without_upgrade
from reference_stack.services.infrastructure.api_gateway.refusal import Refusal, overloaded

# The application has its own deadline for the body, and says so; this one is for who reads no body.
_BODY_GRACE_S = 1.0
# A client whose heads are never the same is not learned from for ever.
_MOST_LESSONS = 8


# How far the last request on a connection has come in.
_NONE, _HEAD, _BODY, _WHOLE = range(4)


class GatewayProtocol(Ending):
    """One connection of a client."""

    def __init__(self, door: Door, **uvicorns: Any) -> None:
        super().__init__(door, **uvicorns)
        self._stage = self._seen = _NONE
        self._head_bytes = 0
        self._ready: HotCycle | None = None
        self._upgrades = False  # the head that was parsed last asks for an upgrade
        self._known: KnownHead | None = None
        self._lessons = _MOST_LESSONS
        self._over = False

    # What asyncio calls.

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        door = self._door
        door.connections += 1
        self._over = door.connections > self._limits.connections
        self._way = Way(door, transport, self.flow, self.server_state, self.on_response_complete, self._on_broken)
        self._read_within(self._limits.headers_s)
        door.story.watch.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._door.connections -= 1
        self._door.story.watch.discard(self)
        super().connection_lost(exc)
        self._abandon()
        del self.parser, self.cycle, self._way  # each knows this connection: only the collector would free them

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        begins = self._stage is _NONE
        known = self._known
        body = known.body_in(data) if begins and known is not None else None
        if body is not None and known is not None and len(body) <= self._limits.body_bytes:
            self._begin_known(known, body)
            return
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self._deaf = True
            self._refuse_last(Refusal(400, "invalid_http", "this is no valid HTTP/1.1 request"))
        ready, self._ready = self._ready, None
        if ready is not None and not self._closed:
            if begins and self._lessons:
                self._learn(data, ready)
            ready.start()
        if not self._deaf and (self._stage is not self._seen or self._stage is _HEAD):
            self._advance(len(data))

    def _begin_known(self, known: KnownHead, body: bytes) -> None:
        """Begin a whole request whose head was parsed before: the parser stands where this one begins, and stays."""
        cycle = HotCycle(self._way, known.call(), known.head, keep_alive=True, expect_100_continue=False)
        cycle.take(body)
        cycle.take_end()
        self.cycle = self._running = cycle
        self._stage = self._seen = _WHOLE
        self._read_whenever()
        cycle.start()

    def _learn(self, data: bytes, ready: HotCycle) -> None:
        """Know the head again with which `data` begins, if it was one whole request; of a few that differ the last."""
        if self._stage is _WHOLE and self.cycle is ready and ready.keep_alive:
            self._lessons -= 1
            known = known_head(data, bytes(ready.body), ready.call.route, ready.head, self._limits.header_bytes)
            self._known = known or self._known

    def _parse(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                version = self.parser.get_http_version()
                head = head_without_upgrade(self.parser.get_method(), self.url, version, self.headers)
                data = head + data[upgrade.args[0] :]
                self._upgrades = False
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
            else:
                return

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_within(self._limits.write_s)
        if isinstance(self._running, HotCycle) and self._running.relay is not None:
            self._running.relay.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._write_whenever()
        if isinstance(self._running, HotCycle) and self._running.relay is not None:
            self._running.relay.resume()

    # What the parser calls.

    def on_message_begin(self) -> None:
        self._stage = _HEAD
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        self._stage = _BODY
        if self._over:
            self._deaf = True
            self._refuse(overloaded("the gateway has as many connections as it takes"))
        if self._deaf:
            return
        if self.parser.should_upgrade():
            self._upgrades = True
            return
        route = self._door.routes.get(self.url)
        parser = self.parser
        if route is None or parser.get_method() != b"POST" or parser.get_http_version() != "1.1":
            self._ordinary()
            return
        existing = self.cycle
        head = Head(self.headers)
        call = new_call(route, head.first(b"x-request-id"))
        keep_alive, expects = parser.should_keep_alive(), self.expect_100_continue
        self.cycle = cycle = HotCycle(self._way, call, head, keep_alive=keep_alive, expect_100_continue=expects)
        if existing is None or existing.response_complete:
            self._running = self._ready = cycle
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def _ordinary(self) -> None:
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        cycle = self.cycle
        if isinstance(cycle, HotCycle):
            cycle.take(body)
        elif not self._deaf:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._stage = _WHOLE
        if self._deaf or self._upgrades:
            return
        cycle = self.cycle
        if isinstance(cycle, HotCycle):
            cycle.take_end()
        else:
            super().on_message_complete()

    # What uvicorn calls of itself.

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        if isinstance(cycle, HotCycle):
            self.loop.call_soon(cycle.start)
        else:
            super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        running, self._running = self._running, None
        if isinstance(running, HotCycle) and not running.keep_alive:
            self._close()
            return
        if self.transport.is_closing():
            self._write_within(self._limits.write_s)
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._refusal is not None:
            self._refuse(self._refusal)
        elif self._stage is _WHOLE:
            self._idle()

    # Deadlines.

    def _advance(self, size: int) -> None:
        """Set the deadline for what is to come of the request next."""
        if self._stage is _HEAD:
            self._head_bytes += size
            if self._head_bytes > 2 * self._limits.header_bytes:
                self._refuse(Refusal(431, "headers_too_large", "the request's head is too large"))
            elif self._seen is not _HEAD:
                self._read_within(self._limits.headers_s)
        else:
            self._head_bytes = 0
            if self._stage is _BODY:
                self._read_within(self._limits.body_s + _BODY_GRACE_S)
            elif self.cycle is not None and self.cycle.response_complete and not self.pipeline:
                self._idle()
                return
            else:
                self._read_whenever()
        self._seen = self._stage

    def _idle(self) -> None:
        self._stage = self._seen = _NONE
        self._read_within(self._limits.idle_s)

    def _on_broken(self) -> None:
        if self.flow.write_paused:
            self._write_within(LAST_WORD_S)

    def expire(self, now_s: float) -> None:
        """Close a connection whose client is too slow."""
        if self._write_due_s <= now_s:
            self._read_due_s = self._write_due_s = self.due_s = NEVER
            self.transport.abort()
        elif self.flow.read_paused:  # it is us who do not read
            self._read_within(self._limits.body_s)
        elif self._stage is _HEAD:
            self._refuse(Refusal(408, "head_timeout", "the request's head did not arrive in time"))
        else:
            self._abandon()
        self._close()
