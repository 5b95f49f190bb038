"""The hot loop against servers that behave and that do not; every failure is a trace of its own kind."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import pytest
import trustme

from hxp_harness.load.client import Client
from hxp_harness.load.connection import Address, Receipts
from hxp_harness.load.conversation import follow
from hxp_harness.load.generator import render
from hxp_harness.load.plan import Due, LoadPlan
from hxp_harness.load.request import Renderer
from hxp_harness.load.stamps import WallOffset, stamping
from hxp_harness.trace import ErrorKind, Trace
from tests.hxp_harness.load.conftest import (
    FINISH,
    LAST_CHUNK,
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
    stream,
    token,
    usage,
)


@pytest.fixture(autouse=True, scope="module")
def kernel_stamps() -> Iterator[None]:
    with stamping() as stamped:
        assert stamped
        yield


def send(
    port: int,
    schedule: Sequence[Due],
    *,
    plan: LoadPlan | None = None,
    tls: ssl.SSLContext | None = None,
    receipts: Receipts | None = None,
) -> list[Trace]:
    """Send `schedule` to a port of this machine; return the traces in the order of the schedule."""
    plan = plan or plan_for(f"http://127.0.0.1:{port}/v1")
    renderer = Renderer(plan, "secret", "test")
    traces: list[Trace] = []
    client = Client(
        Address(socket.AF_INET, ("127.0.0.1", port), "localhost", tls),
        render(renderer, schedule),
        receipts or Receipts(WallOffset()),
        plan=plan,
        on_trace=traces.append,
        on_idle=lambda: None,
        follow=partial(follow, renderer),
    )
    client.run(time.monotonic_ns())
    client.close()
    return sorted(traces, key=lambda trace: trace.index)


def test_a_stream_becomes_a_trace(serve: ServerFactory) -> None:
    """Times rise from intended over sent and tokens to the end, and usage is the server's."""
    server = serve(answering(stream(events(4))))
    receipts = Receipts(WallOffset())
    (trace,) = send(server.port, dues(1), receipts=receipts)
    assert trace.ok, trace
    assert (trace.chunks, trace.output_tokens, trace.prompt_tokens, trace.status) == (4, 4, 7, 200)
    assert trace.finish_reason == "length"
    assert trace.sent_s is not None
    assert trace.end_s is not None
    assert 0 <= trace.intended_s <= trace.sent_s <= trace.token_lo_s[0] <= trace.token_hi_s[-1] <= trace.end_s
    assert trace.new_connection
    assert receipts.kernel_reads > 0
    assert receipts.user_reads == 0
    (request,) = server.requests
    assert request.line == "POST /v1/chat/completions HTTP/1.1"
    assert request.headers["authorization"] == "Bearer secret"
    assert request.headers["x-request-id"] == trace.request_id == "hxp-test-0"
    assert request.body["max_tokens"] == 4


def test_tokens_have_the_kernels_times(serve: ServerFactory) -> None:
    """Each token that came alone is exact to well under the pause between tokens, by the server's own clock."""
    written_s: list[float] = []

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(STREAM_HEAD)
        for part in events(5):
            time.sleep(0.01)  # the pace of the tokens is what is measured
            written_s.append(time.monotonic())
            peer.send(chunk(part))
        peer.send(LAST_CHUNK)
        peer.wait_until_gone()

    server = serve(script)
    started_s = time.monotonic()
    (trace,) = send(server.port, dues(1, tokens=5))
    assert trace.ok, trace
    for low_s, high_s, true_s in zip(trace.token_lo_s, trace.token_hi_s, written_s[1:6], strict=True):
        assert started_s + low_s < true_s + 0.005
        assert started_s + high_s > true_s - 0.001


def test_a_kept_connection_is_used_again(serve: ServerFactory) -> None:
    """Requests one after another share one connection, and only the first says that it is new."""
    server = serve(answering(stream(events(2))))
    traces = send(server.port, dues(4, gap_s=0.05))
    assert [trace.ok for trace in traces] == [True] * 4
    assert [trace.new_connection for trace in traces] == [True, False, False, False]
    assert server.connections == 1


def test_requests_are_sent_when_due_whatever_is_open(serve: ServerFactory) -> None:
    """A server that answers nobody before it has heard all gets all: the loop is open."""

    def script(peer: Peer) -> None:
        peer.request()
        deadline_s = time.monotonic() + 5.0
        while len(peer.server.requests) < 20 and time.monotonic() < deadline_s:
            time.sleep(0.005)  # polls what other threads do
        peer.send(stream(events(1)))
        peer.wait_until_gone()

    server = serve(script)
    traces = send(server.port, dues(20, gap_s=0.005))
    assert len(traces) == 20
    assert all(trace.ok for trace in traces)
    assert all(trace.sent_s is not None and trace.sent_s >= trace.intended_s for trace in traces)
    assert max(trace.sent_s or 9.0 for trace in traces) < min(trace.token_hi_s[0] for trace in traces)
    assert server.connections == 20


def test_a_closed_loop_keeps_its_slots_busy(serve: ServerFactory) -> None:
    """With two slots two requests are open, and the next is intended at the moment that one of them ended."""
    server = serve(answering(stream(events(2))))
    plan = replace(plan_for(server.base_url), concurrency=2)
    schedule = [replace(due, think_s=0.02) for due in dues(8)]
    traces = send(server.port, schedule, plan=plan)
    assert [trace.ok for trace in traces] == [True] * 8
    assert [trace.intended_s for trace in traces[:2]] == pytest.approx([0.02, 0.02])
    ends_s = sorted(trace.end_s or 9.0 for trace in traces)
    later_s = sorted(trace.intended_s for trace in traces[2:])
    assert later_s == pytest.approx([end_s + 0.02 for end_s in ends_s[:6]], abs=1e-6)
    assert all((trace.sent_s or 0.0) >= trace.intended_s for trace in traces)
    assert server.connections == 2


def test_a_stalled_closed_loop_sends_nothing_meanwhile(serve: ServerFactory) -> None:
    """That is its blindness: one slot and a server that stalls leave the others unasked, and nothing counts it."""
    replies = iter([0.3, 0.0, 0.0])

    def script(peer: Peer) -> None:
        while peer.request():
            time.sleep(next(replies))  # the stall is what is looked at
            peer.send(stream(events(1)))

    server = serve(script)
    traces = send(server.port, dues(3), plan=replace(plan_for(server.base_url), concurrency=1))
    assert [trace.ok for trace in traces] == [True] * 3
    took_s = [trace.token_hi_s[-1] - trace.intended_s for trace in traces]
    assert took_s[0] > 0.3
    assert max(took_s[1:]) < 0.2
    assert traces[1].intended_s >= 0.3


def test_a_session_carries_what_was_said(serve: ServerFactory) -> None:
    """Each turn holds the questions and answers before it, and is intended a think time after the last answer."""
    server = serve(answering(stream([event(token("Yes")), event(token(" and no")), *events(0)])))
    schedule = [
        Due(0, 0, 0.0, 8, 4, 11),
        Due(1, 0, 0.5, 20, 4, 12, after=0, think_s=0.02, history_tokens=12),
        Due(2, 0, 0.9, 32, 4, 13, after=1, think_s=0.0, history_tokens=24),
    ]
    traces = send(server.port, schedule)
    assert [trace.error for trace in traces] == [ErrorKind.NONE] * 3
    assert traces[1].intended_s == pytest.approx((traces[0].end_s or 0.0) + 0.02, abs=1e-6)
    assert traces[2].intended_s == pytest.approx(traces[1].end_s or 0.0, abs=1e-6)
    said = [request.body["messages"] for request in server.requests]
    assert isinstance(said[2], list)
    assert [message["role"] for message in said[2]] == ["user", "assistant", "user", "assistant", "user"]
    assert said[2][1] == {"role": "assistant", "content": "Yes and no"}
    assert said[2][:3] == said[1]
    assert [len(message["content"].split()) for message in said[2][::2]] == [8, 8, 8]
    assert len({message["content"] for message in said[2][::2]}) == 3


def test_a_session_goes_on_after_a_failure(serve: ServerFactory) -> None:
    """A turn that got no answer counts as failed once, and the next is still sent, with a word in its place."""

    def script(peer: Peer) -> None:
        if len(peer.server.requests) == 0:
            peer.request()
            peer.send(response({"error": {"message": "no"}}, "500 Internal Server Error"))
        answering(stream(events(1)))(peer)

    server = serve(script)
    schedule = [Due(0, 0, 0.0, 8, 4, 11), Due(1, 0, 0.1, 20, 4, 12, after=0, history_tokens=12)]
    traces = send(server.port, schedule)
    assert [trace.error for trace in traces] == [ErrorKind.HTTP, ErrorKind.NONE]
    said = server.requests[1].body["messages"]
    assert isinstance(said, list)
    assert said[1] == {"role": "assistant", "content": "(no answer)"}


def test_a_body_that_is_no_stream_arrives_once(serve: ServerFactory) -> None:
    """Without streaming the one arrival is the end of the body."""
    server = serve(answering(response(completion(4))))
    plan = plan_for(server.base_url, stream=False, api="completions")
    (trace,) = send(server.port, dues(1), plan=plan)
    assert trace.ok, trace
    assert len(trace.token_hi_s) == 1
    assert trace.token_hi_s == (trace.end_s,)
    assert trace.output_tokens == 4
    assert server.requests[0].line.startswith("POST /v1/completions ")
    assert "stream_options" not in server.requests[0].body


def test_the_same_bytes_one_at_a_time_are_the_same_answer(serve: ServerFactory) -> None:
    """Segments may end anywhere, inside a chunk size or a character."""

    def script(peer: Peer) -> None:
        peer.request()
        text = stream([event(token("\u00e9\u2028")), event(FINISH), event(usage(1)), event(b"[DONE]")])
        for place in range(len(text)):
            peer.send(text[place : place + 1])
        peer.wait_until_gone()

    (trace,) = send(serve(script).port, dues(1))
    assert trace.ok, trace
    assert trace.chunks == 1


def test_a_large_request_and_a_large_answer_pass(serve: ServerFactory) -> None:
    """More than the kernel takes or gives at once goes in pieces."""
    text = "w" * 300_000

    def script(peer: Peer) -> None:
        while request := peer.request():
            assert len(str(request.body)) > 4_000_000
            peer.send(stream([event(token(text)), *events(1)]))

    server = serve(script)
    big = replace(dues(1)[0], prompt_tokens=900_000)
    (trace,) = send(server.port, [big])
    assert trace.ok, trace
    assert trace.chunks == 2
    assert trace.token_lo_s[0] < trace.token_hi_s[0], "several reads: no stamp of its own before the last byte"


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
