"""One connection of the client: a non-blocking socket that carries one request at a time."""

from __future__ import annotations

import errno
import socket
import ssl
import time
from dataclasses import dataclass, field

from hxp_harness.load.exchange import Exchange
from hxp_harness.load.reads import INSIDE, MORE, Raw, arrived_ns
from hxp_harness.load.reply import BadReply, Reply
from hxp_harness.load.stamps import CONTROL_BYTES, WallOffset, ask_for_stamps
from hxp_harness.load.tls import TlsLayer
from hxp_harness.trace import ErrorKind

READ_BYTES = 65536
# A kept connection that dies this soon after a request was sent on it was closed by the server before it knew of the
# request; later, the request itself has failed.
STALE_NS = 250_000_000
# Reads within a chunked body that are kept before they are parsed. It bounds what a body without end can fill.
_PATIENCE = 256
# Each chunked body ends with an empty line, trailers or not: a read that does not, and is no shorter, is not its end.
_EMPTY_LINE = b"\r\n\r\n"
_LEAST_BYTES = len(_EMPTY_LINE)


# As on Ethernet. The loopback's own is 64 KiB.
_SEGMENT_BYTES = 1460
_WINDOW_BYTES = 65536
_BUFFER_BYTES = 1024 * 1024


def _acknowledge_unread(sock: socket.socket) -> None:
    """Let the kernel acknowledge what we have not read yet, so that our own lag never holds the server's bytes back.

    A sender may have ten segments unacknowledged, and each token is a segment. Left alone, Linux acknowledges small
    segments when they are read or after 40 ms, unless they exceed the largest segment seen while the window stays
    open: so the largest segment is bounded, and the buffer is far larger than the window. Without this a client that
    was held up for 3 ms got tokens up to 40 ms late, and stamped them so.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_WINDOW_CLAMP, _WINDOW_BYTES)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT_BYTES)


@dataclass(frozen=True, slots=True)
class Address:
    """Where to connect: resolved before the first request, so that no look-up stands in a request's way."""

    family: socket.AddressFamily
    sockaddr: tuple[str, int] | tuple[str, int, int, int]
    host: str
    tls: ssl.SSLContext | None = None


@dataclass(slots=True)
class Receipts:
    """What all connections of a client learn about the client itself."""

    offset: WallOffset
    kernel_reads: int = 0
    user_reads: int = 0
    # Each read goes here first, and then into bytes of its size: those are kept for long, and cut from a block of the
    # largest size they would hold on to memory between them.
    buffer: memoryview = field(default_factory=lambda: memoryview(bytearray(READ_BYTES)))


class Connection:
    """Carries one exchange after another.

    After each call look at `exchange`, `broken` and `unsent`. While `patience` is left, reads change none.
    """

    def __init__(self, address: Address, receipts: Receipts) -> None:
        """Raises OSError where this machine has no descriptor or no port left."""
        self.exchange: Exchange | None = None
        self.unsent = b""
        self.broken = False
        self._connected = False
        self._used = False
        self._why = ""
        self.patience = 0  # so many reads may still be kept unparsed
        self._raws: list[Raw] = []
        self._parsed = 0  # of them
        self._receipts = receipts
        self._offset = receipts.offset
        self._buffers = (receipts.buffer,)
        self._reply = Reply()
        self._tls = TlsLayer(address.tls, address.host) if address.tls else None
        self.socket = socket.socket(address.family, socket.SOCK_STREAM)
        try:
            self.socket.setblocking(False)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ask_for_stamps(self.socket)
            _acknowledge_unread(self.socket)
            self._connect(address)
        except OSError:
            self.close()
            raise
        self.fd = self.socket.fileno()

    def _connect(self, address: Address) -> None:
        try:
            self.socket.connect(address.sockaddr)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise
            self._why = str(error)  # the event that follows reports it

    def start(self, exchange: Exchange, now_ns: int) -> None:
        """Send the request of `exchange`, or as much as the kernel takes now."""
        self.exchange = exchange
        exchange.new_connection = not self._used
        self._used = True
        exchange.begun_ns = now_ns
        exchange.raws = self._raws = []
        self._parsed = self.patience = 0
        self._reply.clear()
        self.unsent += self._tls.seal(exchange.request) if self._tls else exchange.request
        self.send()

    def send(self) -> None:
        """Hand the kernel what is not sent yet. A failure shows when the socket is read next."""
        if not self.unsent:
            return
        try:
            count = self.socket.send(self.unsent)
        except BlockingIOError:
            return
        except OSError as error:
            self._why = self._why or str(error)
            self.unsent = b""
            return
        self._connected = True
        self.unsent = self.unsent[count:]

    def receive(self, empty_ns: int) -> int:
        """Read once; return the time thereafter. `empty_ns` is a time at which the socket held nothing unread."""
        before_ns = time.monotonic_ns()
        try:
            count, control, _, _ = self.socket.recvmsg_into(self._buffers, CONTROL_BYTES)
        except BlockingIOError:
            return before_ns
        except OSError as error:
            self._lose(before_ns, self._why or str(error))
            return before_ns
        now_ns = time.monotonic_ns()
        received = self._buffers[0][:count].tobytes()
        if self.patience and _LEAST_BYTES <= len(received) < READ_BYTES and not received.endswith(_EMPTY_LINE):
            self.patience -= 1
            self._raws.append((received, control, before_ns, now_ns, empty_ns, self._offset.ns, 0))
        elif received:
            self._take((received, control, before_ns, now_ns, empty_ns, self._offset.ns, 0))
        else:
            self._closed_by_server(now_ns)
        return now_ns

    def _take(self, raw: Raw) -> None:
        """Keep a read, and parse it with those that were kept before."""
        received, control, before_ns, now_ns, empty_ns, offset_ns, _ = raw
        marks = MORE if len(received) == READ_BYTES else 0
        self._connected = True
        if self._tls:
            try:
                received, answer = self._tls.open(received)
            except ssl.SSLError as error:
                self._lose(arrived_ns(raw), f"TLS: {error}", None if self._reply.any_bytes else ErrorKind.REFUSED)
                return
            self.unsent += answer
            self.send()
            if not self._tls.at_boundary:
                marks |= INSIDE
        exchange = self.exchange
        if exchange is None:
            self.broken = self.broken or bool(received)  # a server that speaks without being asked
            return
        self._raws.append((received, control, before_ns, now_ns, empty_ns, offset_ns, marks))
        if not received:
            return
        end_ns = arrived_ns(raw)
        try:
            self._parse()
        except BadReply as error:
            self.fail(end_ns, ErrorKind.BAD_SSE, str(error))
            return
        if self._reply.done:
            self.broken = not self._reply.keep_alive or bool(self.unsent)
            self._end(exchange, end_ns)
        elif self._reply.patient and self._tls is None:
            self.patience = _PATIENCE

    def _parse(self) -> None:
        """Parse what was kept. Raises BadReply."""
        self.patience = 0
        kept = self._raws[self._parsed :]
        self._parsed = len(self._raws)
        received = b"".join([raw[0] for raw in kept])
        if received:
            self._reply.feed(received)

    def fail(self, end_ns: int, error: ErrorKind, detail: str) -> None:
        """End the exchange as a failure, and the connection with it."""
        self.broken = True
        if self.exchange is not None:
            self.exchange.error = error
            self.exchange.detail = detail
            self._end(self.exchange, end_ns)

    def retryable(self, now_ns: int) -> bool:
        """Whether a loss now is the server's closing of an idle connection, which crossed with our request."""
        exchange = self.exchange
        return (
            exchange is not None
            and not exchange.new_connection
            and not exchange.retried
            and not self._reply.any_bytes
            and now_ns - exchange.sent_ns < STALE_NS
        )

    def _closed_by_server(self, now_ns: int) -> None:
        if self.exchange is not None and self._reply.end_of_connection():
            self.broken = True
            self._end(self.exchange, now_ns)
        else:
            cut = self._reply.any_bytes and not self._why
            self._lose(now_ns, self._why or "the server closed the connection", ErrorKind.CUT if cut else None)

    def _lose(self, now_ns: int, why: str, kind: ErrorKind | None = None) -> None:
        """Fail for the loss of the connection: `kind`, or refused or reset by how far it had come."""
        self.broken = True
        if not self.retryable(now_ns):
            self.fail(now_ns, kind or (ErrorKind.RESET if self._connected else ErrorKind.REFUSED), why)

    def _end(self, exchange: Exchange, end_ns: int) -> None:
        try:
            self._parse()
        except BadReply as error:  # what came before the failure was no HTTP
            exchange.error, exchange.detail = ErrorKind.BAD_SSE, str(error)
            self.broken = True
        reply = self._reply
        exchange.end_ns = end_ns
        exchange.status = reply.status
        exchange.content_type = reply.content_type
        exchange.body = b"".join(reply.parts)
        exchange.bounds = reply.bounds
        stamped = sum([bool(raw[1]) for raw in self._raws])
        self._receipts.kernel_reads += stamped
        self._receipts.user_reads += len(self._raws) - stamped
        # An idle connection holds on to nothing of what it carried.
        self._raws, self._parsed = [], 0
        reply.parts.clear()

    def close(self) -> None:
        self._reply.close()
        self.socket.close()
