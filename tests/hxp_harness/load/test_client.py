"""The hot loop against servers that behave: when it sends, what it reads, and whose times it takes."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from hxp_harness.load.connection import Receipts
from hxp_harness.load.plan import Due
from hxp_harness.load.stamps import WallOffset
from hxp_harness.trace import ErrorKind
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
    send,
    stream,
    token,
    usage,
)

pytestmark = pytest.mark.usefixtures("kernel_stamps")


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
    """Each token is said to have come while the server sent it, by the server's own clock."""
    sent_s: list[tuple[float, float]] = []

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(STREAM_HEAD)
        for part in events(5):
            time.sleep(0.01)  # the pace of the tokens is what is measured
            before_s = time.monotonic()
            peer.send(chunk(part))
            sent_s.append((before_s, time.monotonic()))
        peer.send(LAST_CHUNK)
        peer.wait_until_gone()

    server = serve(script)
    t0_ns = time.monotonic_ns()
    (trace,) = send(server.port, dues(1, tokens=5), t0_ns=t0_ns)
    assert trace.ok, trace
    for low_s, high_s, (before_s, after_s) in zip(trace.token_lo_s, trace.token_hi_s, sent_s[1:6], strict=True):
        assert t0_ns / 1e9 + low_s < after_s + 0.0001
        assert t0_ns / 1e9 + high_s > before_s - 0.0001


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
