"""One connection to a model's server, which carries one exchange after another."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol, cast

import httptools

from reference_stack.services.infrastructure.api_gateway.backend import Address
from reference_stack.services.infrastructure.api_gateway.wire.exchange import Exchange, Takes

# What a server may say before the body of its answer, interim answers included.
_LONGEST_HEAD_BYTES = 64 * 1024
# uvicorn and vLLM close a connection that was idle for 5 s; one that is used at that very moment would be lost.
_IDLE_S = 3.0
# Behind [DONE] there is nothing but the end; waiting for it keeps the connection for the next request.
_AFTER_DONE_S = 0.2
_NEVER = float("inf")


class Owner(Protocol):
    """Who keeps connections for later exchanges."""

    def opened(self, connection: Connection) -> None: ...

    def free(self, connection: Connection) -> None:
        """Hear that another exchange may begin on it."""
        ...

    def stale(self, exchange: Exchange) -> None:
        """Hear that a kept connection was closed at the very moment it was used again: nothing came back on it."""
        ...

    def closed(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    """Free, or carrying an exchange, or waiting a moment for the end of an answer that nobody listens to."""

    def __init__(self, owner: Owner, address: Address) -> None:
        self.address = address
        self._owner = owner
        self._parser = httptools.HttpResponseParser(self)
        self._exchange: Exchange | None = None
        self._free = False
        self._used = False
        self.due_s = _NEVER
        self._clear()

    def _clear(self) -> None:
        self._between = False  # the parser has seen a whole chunk, and nothing of the next
        self._takes: Takes | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._parts: list[bytes] = []
        self._head_bytes = 0
        self._status = 0
        self._told = False
        self._interim = False
        self._whole = False
        self._keeps = False

    @property
    def usable(self) -> bool:
        return not self._transport.is_closing()

    def begin(self, exchange: Exchange) -> None:
        """Send the request of `exchange`; the connection must be free or new."""
        self._free = False
        self.due_s = _NEVER
        self._clear()
        self._exchange = exchange
        exchange.carrier = self
        self._transport.write(exchange.request)
        if exchange.paused:
            self.pause()

    def wait(self) -> None:
        """Be free, until another exchange begins or it was idle for too long."""
        self._free = True
        self.due_s = time.monotonic() + _IDLE_S
        self._owner.free(self)

    def abort(self) -> None:
        """Close at once; nobody hears of it."""
        self._exchange = self._takes = None
        self._transport.abort()

    def let_go(self) -> None:
        """Nobody listens any more: be free again if the answer ends in a moment."""
        exchange, self._exchange, self._takes = self._exchange, None, None
        if exchange is not None and exchange.paused:
            self.resume()
        self.due_s = time.monotonic() + _AFTER_DONE_S

    def shorten(self, takes: Takes) -> None:
        if self._between:
            self._takes = takes

    def pause(self) -> None:
        if self.usable:
            self._transport.pause_reading()

    def resume(self) -> None:
        if self.usable:
            self._transport.resume_reading()

    def expire(self, _now_s: float) -> None:
        self.due_s = _NEVER
        self.abort()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        takes = self._takes
        if takes is not None:
            taken = takes(data)
            if taken == len(data):
                return
            # The parser stands where it stood: it need not see chunks that were taken.
            data, self._takes = data[taken:], None
        if self._free:  # a server that speaks unasked
            self.abort()
            return
        if self._exchange is not None:
            self._exchange.heard = True
        broken = ""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            broken = f"not HTTP: {error}"
        except httptools.HttpParserUpgrade:
            broken = "an upgrade that nobody asked for"
        if not self._status:
            self._head_bytes += len(data)
            if self._head_bytes > _LONGEST_HEAD_BYTES:
                broken = "the head is too long"
        if broken:
            self._keeps = False
        self._between = self._between and data.endswith(b"\r\n")
        self._tell(broken)

    def eof_received(self) -> None:
        """Without a length the end of the connection is that of the answer."""
        lengths = (b"content-length", b"transfer-encoding")
        if self._status and not self._whole and not any(name in lengths for name, _ in self._headers):
            self._whole = True
            self._tell("")

    def connection_lost(self, _error: Exception | None) -> None:
        self._owner.closed(self)
        del self._parser  # it knows this connection: only the collector would free them
        exchange, self._exchange, self._takes = self._exchange, None, None
        if exchange is None or exchange.listener is None:
            return
        exchange.carrier = None
        if self._used and not exchange.heard:
            self._owner.stale(exchange)
        else:
            self._lost(exchange, "the connection ended before the answer")

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self._whole:  # bytes behind the end of an answer
            self._keeps = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._whole:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        self._interim = 100 <= status < 200 and status != 101
        if self._interim:
            self._headers = []
        elif not self._whole:
            self._status = status

    def on_body(self, data: bytes) -> None:
        if not self._whole:
            self._parts.append(data)

    def on_chunk_header(self) -> None:
        self._between = False

    def on_chunk_complete(self) -> None:
        self._between = True

    def on_message_complete(self) -> None:
        self._between = False
        if self._interim:
            self._interim = False
        elif not self._whole:
            self._whole = True
            self._keeps = self._parser.should_keep_alive()

    # What this connection tells others.

    def _tell(self, broken: str) -> None:
        """Tell what one read has brought, in order. The listener may cancel or release at any point."""
        exchange = self._exchange
        if exchange is not None:
            listener = exchange.listener
            if self._status and not self._told and listener is not None:
                self._told = True
                listener.head(self._status, self._headers)
            if self._parts and exchange.listener is not None:
                exchange.listener.part(self._parts[0] if len(self._parts) == 1 else b"".join(self._parts))
        self._parts.clear()
        if self._whole:
            self._end(exchange)
        elif broken:
            self.abort()
            if exchange is not None:
                self._lost(exchange, broken)

    def _end(self, exchange: Exchange | None) -> None:
        self._exchange = None
        if exchange is not None and exchange.paused:
            self.resume()
        # A server may answer before it has the whole request; the rest of it must not meet the next answer.
        if self._keeps and self.usable and self._transport.get_write_buffer_size() == 0:
            self._used = True
            self.wait()
        else:
            self._transport.abort()
        if exchange is not None and exchange.listener is not None:
            listener, exchange.listener, exchange.carrier = exchange.listener, None, None
            listener.end()

    def _lost(self, exchange: Exchange, why: str) -> None:
        listener, exchange.listener, exchange.carrier = exchange.listener, None, None
        if listener is not None:
            listener.lost(why)
