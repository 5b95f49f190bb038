"""One connection of the golden server: raw bytes in with the kernel's time stamp, raw bytes out."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections import deque
from collections.abc import Callable

import httptools

from hxp_harness.certify.truth import TruthEvent

SO_TIMESTAMPNS = 35  # asm-generic/socket.h; not in the socket module
_TIMESPEC = struct.Struct("@ll")


class Request:
    """One HTTP request, complete."""

    __slots__ = ("arrived_s", "body", "headers", "keep_alive", "method", "path", "read_s")

    def __init__(self) -> None:
        self.method = ""
        self.path = ""
        self.headers: dict[str, str] = {}
        self.body = b""
        self.keep_alive = True
        self.arrived_s = 0.0
        self.read_s = 0.0


Answer = Callable[["Connection", Request], Callable[[str], None] | None]  # returns how to cancel, if it goes on


def _nothing() -> None:
    """Nobody waits for the end of this answer."""


class Connection:
    """Reads requests, gives each to `answer` when the one before it is done, writes without waiting."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, answer: Answer) -> None:
        self._loop = loop
        self._sock = sock
        self._answer = answer
        self._request = Request()
        self._waiting: deque[Request] = deque()
        self._cancel: Callable[[str], None] | None = None
        self._busy: Request | None = None
        self._backlog: deque[tuple[memoryview, TruthEvent | None]] = deque()
        self._then = ""
        self._done = _nothing
        self.closed = False
        self._parser = httptools.HttpRequestParser(self)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop.add_reader(sock.fileno(), self._readable)

    # What httptools calls.

    def on_url(self, url: bytes) -> None:
        self._request.path += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._request.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._request.body += body

    def on_message_complete(self) -> None:
        request, self._request = self._request, Request()
        request.method = self._parser.get_method().decode("latin-1")
        request.keep_alive = self._parser.should_keep_alive()
        self._waiting.append(request)

    # What the answer calls.

    def send(self, payload: bytes, event: TruthEvent | None = None) -> None:
        """Hand `payload` to the kernel now, what does not fit later; `event` gets the interval of its last byte."""
        if self.closed:
            return
        before_s = time.monotonic()
        if event is not None:
            event.lo_s = before_s
        sent = 0
        if not self._backlog:
            try:
                sent = self._sock.send(payload)
            except BlockingIOError:
                pass
            except OSError:
                self.close("cancelled")
                return
        if sent < len(payload):
            if not self._backlog:
                self._loop.add_writer(self._sock.fileno(), self._writable)
            self._backlog.append((memoryview(payload)[sent:], event))
        elif event is not None:
            event.hi_s = time.monotonic()

    def finish(self, then: str, done: Callable[[], None] = _nothing) -> None:
        """Call `done` when all is handed to the kernel, then keep (end), close or reset the connection."""
        self._then = then
        self._done = done
        if not self._backlog:
            self._settle()

    def close(self, ended: str) -> None:
        """Close at once; an answer that goes on ends as `ended`."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        self._backlog.clear()
        self._waiting.clear()
        cancel, self._cancel, self._busy = self._cancel, None, None
        if cancel is not None:
            cancel(ended)

    def _readable(self) -> None:
        try:
            received, ancillary, _, _ = self._sock.recvmsg(1 << 16, 64)
        except BlockingIOError:
            return
        except OSError:
            received, ancillary = b"", []
        read_s = time.monotonic()
        if not received:
            self.close("cancelled")
            return
        known = len(self._waiting)
        try:
            self._parser.feed_data(received)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            self.close("cancelled")
            return
        for request in list(self._waiting)[known:]:
            request.read_s = read_s
            request.arrived_s = min(read_s, _stamp(ancillary, read_s))
        self._next()

    def _next(self) -> None:
        while self._waiting and self._busy is None and not self.closed:
            request = self._busy = self._waiting.popleft()
            cancel = self._answer(self, request)
            if self._busy is request:  # it goes on
                self._cancel = cancel

    def _settle(self) -> None:
        """Leave the answered request behind."""
        request, then, done = self._busy, self._then, self._done
        self._busy, self._cancel, self._then, self._done = None, None, "", _nothing
        done()
        if then == "reset":
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if then != "end" or request is None or not request.keep_alive:
            self.close("complete")
        elif self._waiting:
            self._loop.call_soon(self._next)

    def _writable(self) -> None:
        while self._backlog:
            rest, event = self._backlog[0]
            try:
                sent = self._sock.send(rest)
            except BlockingIOError:
                return
            except OSError:
                self.close("cancelled")
                return
            if sent < len(rest):
                self._backlog[0] = (rest[sent:], event)
                return
            if event is not None:
                event.hi_s = time.monotonic()
            self._backlog.popleft()
        self._loop.remove_writer(self._sock.fileno())
        if self._then:
            self._settle()


def _stamp(ancillary: list[tuple[int, int, bytes]], read_s: float) -> float:
    """Return when the kernel had the bytes, on the monotonic clock; `read_s` if it does not say."""
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            seconds, nanoseconds = _TIMESPEC.unpack(content[: _TIMESPEC.size])
            return float(seconds + nanoseconds * 1e-9 - (time.time() - time.monotonic()))
    return read_s
