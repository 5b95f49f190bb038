"""The hot loop's connections: kept, replaced, given up at a stop, and under TLS."""

from __future__ import annotations

import socket
import ssl
import time

import pytest
import trustme

from hxp_harness.load.client import Client
from hxp_harness.load.connection import Address, Receipts
from hxp_harness.load.plan import Due
from hxp_harness.load.request import Renderer
from hxp_harness.load.stamps import WallOffset
from hxp_harness.trace import ErrorKind, Trace
from tests.hxp_harness.load.conftest import (
    LAST_CHUNK,
    STREAM_HEAD,
    Peer,
    ServerFactory,
    answering,
    chunk,
    dues,
    event,
    events,
    plan_for,
    send,
    stream,
    token,
)

pytestmark = pytest.mark.usefixtures("kernel_stamps")


def test_a_stale_connection_is_replaced(serve: ServerFactory) -> None:
    """A kept connection that the server closes as the request arrives is no error: a new one carries it."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(stream(events(2)))
        if peer.number == 0:
            peer.request()  # the next one meets a closing server
            peer.reset()
        else:
            peer.wait_until_gone()

    server = serve(script)
    first, second = send(server.port, dues(2, gap_s=0.1))
    assert first.ok, first
    assert second.ok, second
    assert second.new_connection
    assert second.intended_s == 0.1
    assert second.sent_s is not None
    assert second.sent_s >= 0.1
    assert [request.headers["x-request-id"] for request in server.requests] == [
        "hxp-test-0",
        "hxp-test-1",
        "hxp-test-1",
    ]


def test_a_request_is_repeated_once_only(serve: ServerFactory) -> None:
    """A server that always closes is an error after the second try."""

    def script(peer: Peer) -> None:
        peer.request()
        if peer.number == 0:
            peer.send(stream(events(2)))
            peer.request()
        peer.reset()

    first, second = send(serve(script).port, dues(2, gap_s=0.1))
    assert first.ok, first
    assert second.error is ErrorKind.RESET


def test_an_idle_connection_that_the_server_closed_is_not_used(serve: ServerFactory) -> None:
    """Connection: close and a close between two requests both lead to a new connection, without an error."""

    def script(peer: Peer) -> None:
        peer.request()
        head = STREAM_HEAD if peer.number else STREAM_HEAD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        peer.send(head + b"".join(map(chunk, events(1))) + LAST_CHUNK)

    server = serve(script)
    traces = send(server.port, dues(3, gap_s=0.05))
    assert [trace.ok for trace in traces] == [True] * 3
    assert all(trace.new_connection for trace in traces)
    assert server.connections == 3
    assert len(server.requests) == 3


def test_a_server_that_speaks_unasked_loses_its_connection(serve: ServerFactory) -> None:
    """Bytes behind the end of an answer, at once or later, are not taken for the next answer."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(stream(events(1)))
        if peer.number == 0:
            time.sleep(0.02)  # behind the answer, before the next request
            peer.send(stream(events(3)))
        peer.wait_until_gone()

    traces = send(serve(script).port, dues(2, gap_s=0.1))
    assert [(trace.ok, trace.chunks) for trace in traces] == [(True, 1), (True, 1)]
    assert traces[1].new_connection


def test_a_continue_precedes_the_answer(serve: ServerFactory) -> None:
    """An interim response is not the response."""
    server = serve(answering(b"HTTP/1.1 100 Continue\r\n\r\n" + stream(events(1))))
    (trace,) = send(server.port, dues(1))
    assert (trace.status, trace.ok) == (200, True), trace


def test_a_stop_ends_everything(serve: ServerFactory) -> None:
    """Open requests become unfinished, what was due is accounted for, what was not yet due is not sent."""
    clients: list[Client] = []

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(STREAM_HEAD + chunk(event(token())))
        time.sleep(0.05)  # the token arrives before the stop
        clients[0].stop()
        peer.wait_until_gone()

    server = serve(script)
    plan = plan_for(server.base_url)
    renderer = Renderer(plan, "", "test")
    traces: list[Trace] = []
    schedule = [Due(0, 0, 0.0, 16, 4, 1), Due(1, 0, 60.0, 16, 4, 2)]
    client = Client(
        Address(socket.AF_INET, ("127.0.0.1", server.port), "localhost"),
        [(due, renderer.request(due), "id") for due in schedule],
        Receipts(WallOffset()),
        plan=plan,
        on_trace=traces.append,
        on_idle=lambda: None,
    )
    clients.append(client)
    client.run(time.monotonic_ns())
    client.close()
    assert [(trace.index, trace.error, trace.chunks) for trace in traces] == [(0, ErrorKind.UNFINISHED, 1)]
    assert (client.due, client.sent, client.stopped) == (1, 1, True)


def test_a_request_that_was_due_at_the_stop_is_not_sent() -> None:
    """What was due and not sent has a trace that says so."""
    traces: list[Trace] = []
    client = Client(
        Address(socket.AF_INET, ("127.0.0.1", 1), "localhost"),
        [(due, b"", "id") for due in dues(2, gap_s=60.0)],
        Receipts(WallOffset()),
        plan=plan_for("http://127.0.0.1:1/v1"),
        on_trace=traces.append,
        on_idle=lambda: None,
    )
    client.stop()
    client.run(time.monotonic_ns() - 1_000_000_000)
    client.close()
    assert [(trace.index, trace.error, trace.sent_s) for trace in traces] == [(0, ErrorKind.NOT_SENT, None)]
    assert (client.due, client.sent) == (1, 0)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def contexts(authority: trustme.CA) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return a server's and a client's context that know each other."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


def test_tls_keeps_the_kernels_stamps(serve: ServerFactory, authority: trustme.CA) -> None:
    """Under https tokens are read and stamped as without."""
    server_tls, client_tls = contexts(authority)
    server = serve(answering(stream(events(4))), server_tls)
    receipts = Receipts(WallOffset())
    traces = send(server.port, dues(3, gap_s=0.1), tls=client_tls, receipts=receipts)
    assert [(trace.ok, trace.chunks) for trace in traces] == [(True, 4)] * 3, traces
    assert server.connections == 1
    assert receipts.user_reads == 0


def test_a_large_answer_passes_through_tls(serve: ServerFactory, authority: trustme.CA) -> None:
    """Records that end within a read are put together."""
    server_tls, client_tls = contexts(authority)
    server = serve(answering(stream([event(token("w" * 200_000)), *events(1)])), server_tls)
    (trace,) = send(server.port, dues(1), tls=client_tls)
    assert (trace.ok, trace.chunks) == (True, 2), trace


def test_an_unknown_certificate_is_refused(serve: ServerFactory, authority: trustme.CA) -> None:
    """A server that cannot prove who it is gets no request."""
    server_tls, _ = contexts(authority)
    server = serve(answering(stream(events(1))), server_tls)
    (trace,) = send(server.port, dues(1), tls=ssl.create_default_context())
    assert trace.error is ErrorKind.REFUSED
    assert "certificate" in trace.detail.lower()
    assert server.requests == []
