"""One connection of the client: a non-blocking socket that carries one request at a time."""

from __future__ import annotations

import errno
import socket
import ssl
import time
from dataclasses import dataclass

from hxp_harness.load.exchange import Exchange
from hxp_harness.load.reply import BadReply, Reply
from hxp_harness.load.stamps import CONTROL_BYTES, WallOffset, ask_for_stamps, stamp_ns
from hxp_harness.load.tls import TlsLayer
from hxp_harness.trace import ErrorKind

READ_BYTES = 65536
# A kept connection that dies this soon after a request was sent on it was closed by the server before it knew of the
# request; later, the request itself has failed.
STALE_NS = 250_000_000


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


class Connection:
    """Carries one exchange after another. After each call look at `exchange`, `broken` and `unsent`."""

    def __init__(self, address: Address, receipts: Receipts) -> None:
        """Raises OSError where this machine has no descriptor or no port left."""
        self.exchange: Exchange | None = None
        self.unsent = b""
        self.broken = False
        self._connected = False
        self._used = False
        self._why = ""
        self._empty_ns = 0
        self._rest_waits = False
        self._receipts = receipts
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
        self._empty_ns = now_ns
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
            received, control, _, _ = self.socket.recvmsg(READ_BYTES, CONTROL_BYTES)
        except BlockingIOError:
            return before_ns
        except OSError as error:
            self._lose(before_ns, self._why or str(error))
            return before_ns
        now_ns = time.monotonic_ns()
        if not received:
            self._closed_by_server(now_ns)
            return now_ns
        lo_ns = self._empty_ns if self._rest_waits else max(self._empty_ns, empty_ns)
        self._rest_waits = len(received) == READ_BYTES
        if not self._rest_waits:
            self._empty_ns = before_ns
        wall_ns = stamp_ns(control)
        if wall_ns:
            self._receipts.kernel_reads += 1
            hi_ns = min(wall_ns - self._receipts.offset.ns, now_ns)
            lo_ns = min(lo_ns, hi_ns)
            last_lo_ns = lo_ns if self._rest_waits else hi_ns
        else:
            self._receipts.user_reads += 1
            hi_ns = now_ns
            last_lo_ns = lo_ns
        self._take(received, lo_ns, hi_ns, last_lo_ns, now_ns)
        return now_ns

    def _take(self, received: bytes, lo_ns: int, hi_ns: int, last_lo_ns: int, now_ns: int) -> None:
        self._connected = True
        if self._tls:
            try:
                received, answer = self._tls.open(received)
            except ssl.SSLError as error:
                self._lose(hi_ns, f"TLS: {error}", None if self._reply.any_bytes else ErrorKind.REFUSED)
                return
            self.unsent += answer
            self.send()
            if not self._tls.at_boundary:
                last_lo_ns = lo_ns
            if not received:
                return
        exchange = self.exchange
        if exchange is None:
            self.broken = True  # a server that speaks without being asked
            return
        exchange.read_lag_ns = max(exchange.read_lag_ns, now_ns - hi_ns)
        try:
            self._reply.feed(received, lo_ns, hi_ns, last_lo_ns)
        except BadReply as error:
            self.fail(hi_ns, ErrorKind.BAD_SSE, str(error))
            return
        if self._reply.done:
            self.broken = not self._reply.keep_alive or bool(self.unsent)
            self._end(exchange, hi_ns)

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
        reply = self._reply
        exchange.end_ns = end_ns
        exchange.status = reply.status
        exchange.content_type = reply.content_type
        exchange.parts = reply.parts
        exchange.reads = reply.reads

    def close(self) -> None:
        self._reply.close()
        self.socket.close()
