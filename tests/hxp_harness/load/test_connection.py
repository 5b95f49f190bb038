"""One connection, driven by hand."""

from __future__ import annotations

import socket
import time

from hxp_harness.load.connection import Address, Connection, Receipts
from hxp_harness.load.exchange import Exchange
from hxp_harness.load.stamps import WallOffset
from hxp_harness.trace import ErrorKind
from tests.hxp_harness.load.conftest import Peer, ServerFactory, answering, dues, events, stream

REQUEST = b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"
_TIMESTAMPNS = 35


def exchange() -> Exchange:
    return Exchange(dues(1)[0], REQUEST, "id", stream=True, intended_ns=0, deadline_ns=0)


def wait_for_bytes(connection: Connection) -> None:
    connection.socket.settimeout(5.0)
    connection.socket.recv(1, socket.MSG_PEEK)
    connection.socket.setblocking(False)


def test_without_kernel_stamps_a_time_is_an_interval(serve: ServerFactory) -> None:
    """Where the kernel does not stamp, all that is known of the last byte too is when the socket was empty."""
    server = serve(answering(stream(events(2))))
    receipts = Receipts(WallOffset())
    connection = Connection(Address(socket.AF_INET, ("127.0.0.1", server.port), "h"), receipts)
    connection.socket.setsockopt(socket.SOL_SOCKET, _TIMESTAMPNS, 0)
    wanted = exchange()
    sent_ns = time.monotonic_ns()
    connection.start(wanted, sent_ns)
    while not wanted.end_ns:
        wait_for_bytes(connection)
        connection.receive(sent_ns)
    assert all(held is not wanted.raws for held in vars(connection).values()), (
        "an idle connection holds what it carried"
    )
    connection.close()
    assert (receipts.kernel_reads, receipts.user_reads) == (0, len(wanted.raws))
    trace = wanted.to_trace(0)
    assert trace.ok, trace
    assert all(low < high for low, high in zip(trace.token_lo_s, trace.token_hi_s, strict=True))


def test_a_read_of_an_empty_socket_changes_nothing(serve: ServerFactory) -> None:
    """An event that turns out to be none is harmless."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.wait_until_gone()

    server = serve(script)
    connection = Connection(Address(socket.AF_INET, ("127.0.0.1", server.port), "h"), Receipts(WallOffset()))
    wanted = exchange()
    connection.start(wanted, time.monotonic_ns())
    connection.receive(time.monotonic_ns())
    assert (wanted.end_ns, connection.broken) == (0, False)
    connection.close()


def test_an_address_that_cannot_be_reached_is_refused() -> None:
    """A connect that fails on the spot is told with the first read, as any other."""
    unreachable = Address(socket.AF_INET, ("255.255.255.255", 9), "h")
    connection = Connection(unreachable, Receipts(WallOffset()))
    wanted = exchange()
    connection.start(wanted, time.monotonic_ns())
    connection.receive(time.monotonic_ns())
    connection.close()
    assert wanted.error is ErrorKind.REFUSED
    assert "unreachable" in wanted.detail.lower()
