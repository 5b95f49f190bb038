"""The hot loop against servers that do not behave: every failure is a trace of its own kind."""

from __future__ import annotations

import socket
import time

import pytest

from hxp_harness.trace import ErrorKind
from tests.hxp_harness.load.conftest import (
    FINISH,
    STREAM_HEAD,
    Peer,
    ServerFactory,
    answering,
    chunk,
    completion,
    dues,
    event,
    events,
    plan_for,
    response,
    send,
    stream,
    token,
)

pytestmark = pytest.mark.usefixtures("kernel_stamps")


def test_no_server_is_refused() -> None:
    """Where nothing listens each request is refused, sent on time all the same."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    traces = send(port, dues(3, gap_s=0.01))
    assert [trace.error for trace in traces] == [ErrorKind.REFUSED] * 3
    assert all(trace.sent_s is not None and "refused" in trace.detail.lower() for trace in traces)


def reset_at_once(peer: Peer) -> None:
    peer.request()
    peer.reset()


def reset_in_the_stream(peer: Peer) -> None:
    peer.request()
    peer.send(STREAM_HEAD + chunk(event(token())))
    time.sleep(0.02)  # a reset takes unread bytes with it
    peer.reset()


def close_in_the_stream(peer: Peer) -> None:
    peer.request()
    peer.send(STREAM_HEAD + chunk(event(token())))


def close_after_headers(peer: Peer) -> None:
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")


def answer_in_no_http(peer: Peer) -> None:
    peer.request()
    peer.send(b"SSH-2.0-OpenSSH_9.2\r\n")


def answer_in_bad_chunks(peer: Peer) -> None:
    peer.request()
    peer.send(STREAM_HEAD + b"zz\r\nhello")


def answer_without_an_end(peer: Peer) -> None:
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + b"".join(events(2)[:2]))


@pytest.mark.parametrize(
    ("script", "error", "tokens"),
    [
        (reset_at_once, ErrorKind.RESET, 0),
        (reset_in_the_stream, ErrorKind.RESET, 1),
        (close_in_the_stream, ErrorKind.CUT, 1),
        (close_after_headers, ErrorKind.CUT, 0),
        (answer_in_no_http, ErrorKind.BAD_SSE, 0),
        (answer_in_bad_chunks, ErrorKind.BAD_SSE, 0),
        (answer_without_an_end, ErrorKind.TRUNCATED, 1),
        (answering(response({"error": {"message": "too many"}}, "429 Too Many Requests")), ErrorKind.HTTP, 0),
        (answering(response(completion())), ErrorKind.BAD_SSE, 0),
        (answering(stream([event(token()), event({"error": "died"})])), ErrorKind.STREAM_ERROR, 1),
        (answering(stream([event(token())])), ErrorKind.TRUNCATED, 1),
        (answering(stream([event(token()), event(FINISH), event(b"[DONE]")])), ErrorKind.NO_USAGE, 1),
    ],
)
def test_each_failure_is_its_own_kind(serve: ServerFactory, script: object, error: ErrorKind, tokens: int) -> None:
    """What went wrong is in the trace with what had come by then, and never a success."""
    (trace,) = send(serve(script).port, dues(1))
    assert (trace.error, trace.chunks) == (error, tokens), trace
    assert trace.detail
    assert len(trace.detail) <= 200


def test_an_http_error_keeps_its_status_and_words(serve: ServerFactory) -> None:
    """The status and what the server said are in the trace."""
    server = serve(answering(response({"error": {"message": "no room"}}, "503 Service Unavailable")))
    (trace,) = send(server.port, dues(1))
    assert (trace.status, trace.detail) == (503, "no room")


def test_a_failed_body_that_is_no_stream_is_no_success(serve: ServerFactory) -> None:
    """A body that was cut is so called, streaming or not; a close without any answer is a lost connection."""
    for script, kind in ((close_after_headers, ErrorKind.CUT), (lambda peer: peer.request(), ErrorKind.RESET)):
        server = serve(script)
        (trace,) = send(server.port, dues(1), plan=plan_for(server.base_url, stream=False))
        assert trace.error is kind


def test_what_was_cut_behind_done_had_come(serve: ServerFactory) -> None:
    """A connection lost between [DONE] and the last chunk has lost nothing."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(STREAM_HEAD + b"".join(map(chunk, events(2))))

    (trace,) = send(serve(script).port, dues(1))
    assert trace.ok, trace


def test_a_silent_server_times_out(serve: ServerFactory) -> None:
    """A request ends at its timeout, counted from when it was intended, and keeps the tokens that had come."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(STREAM_HEAD + chunk(event(token())))
        peer.wait_until_gone()

    server = serve(script)
    (trace,) = send(server.port, dues(1), plan=plan_for(server.base_url, timeout_s=0.2))
    assert (trace.error, trace.chunks) == (ErrorKind.TIMEOUT, 1)
    assert trace.end_s is not None
    assert 0.2 <= trace.end_s < 2.0
