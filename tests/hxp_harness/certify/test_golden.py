"""What the golden server says, and when: its behaviour on the wire and in its own log."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from hxp_harness.certify.golden_process import GoldenServer
from tests.hxp_harness.certify.conftest import (
    StartGolden,
    connect,
    content,
    exchange,
    payloads,
    request_bytes,
)


def test_tokens_leave_at_their_absolute_times(start_golden: StartGolden) -> None:
    """Token k is due at arrival + ttft + k * itl and never leaves before."""
    server = start_golden()
    exchange(server, request_bytes("a", max_tokens=20))
    truth = server.truth("a")

    assert truth.ended == "complete"
    assert [event.tokens for event in truth.events] == [1] * 20
    for number, event in enumerate(truth.events):
        assert event.due_s == pytest.approx(truth.arrived_s + 0.02 + number * 0.004, abs=1e-6)
        assert event.due_s <= event.lo_s <= event.hi_s
    assert truth.arrived_s <= truth.read_s == pytest.approx(truth.arrived_s, abs=0.5)
    assert min(event.lo_s - event.due_s for event in truth.events) < 0.002
    assert truth.end_s >= truth.events[-1].hi_s


def test_stream_speaks_openai(start_golden: StartGolden) -> None:
    """A streamed chat is role, tokens, finish_reason, usage and [DONE]."""
    answer = exchange(start_golden(), request_bytes("a"))
    events = payloads(answer)

    assert answer.startswith(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream")
    assert b"x-request-id: a\r\n" in answer
    assert answer.endswith(b"0\r\n\r\n")
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert content(events) == " t0 t1 t2 t3"
    assert [event["choices"][0]["finish_reason"] for event in events[:-2]] == [None] * 4 + ["length"]
    assert events[-2]["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    assert events[-1] == "[DONE]"


def test_usage_comes_only_when_asked_for(start_golden: StartGolden) -> None:
    """Without stream_options no event carries usage; with continuous usage every one does."""
    server = start_golden()
    plain = payloads(exchange(server, request_bytes("a", stream_options=None)))
    continuous = {"include_usage": True, "continuous_usage_stats": True}
    counted = payloads(exchange(server, request_bytes("b", stream_options=continuous)))

    assert len(plain) == 6
    assert not any("usage" in event for event in plain)
    assert [event["usage"]["completion_tokens"] for event in counted[1:-1]] == [1, 2, 3, 4, 4]


@pytest.mark.parametrize(
    ("path", "prompt"),
    [
        ("/v1/chat/completions", {}),
        ("/v1/completions", {"messages": None, "prompt": "one two"}),
        ("/v1/completions", {"messages": None, "prompt": ["one", "two"]}),
    ],
)
def test_answer_without_streaming(start_golden: StartGolden, path: str, prompt: dict[str, Any]) -> None:
    """Without streaming the whole body leaves when the last token is due."""
    server = start_golden(reasoning_tokens=1)
    answer = exchange(server, request_bytes("a", path=path, stream=None, stream_options=None, **prompt))
    body = json.loads(answer.split(b"\r\n\r\n", 1)[1])
    truth = server.truth("a")

    (event,) = truth.events
    assert event.tokens == 4
    assert event.due_s == pytest.approx(truth.arrived_s + 0.02 + 3 * 0.004, abs=1e-6)
    assert body["usage"]["completion_tokens"] == 4
    assert body["usage"]["prompt_tokens"] == (2 if prompt else 3)
    choice = body["choices"][0]
    assert choice["finish_reason"] == "length"
    assert choice["text" if prompt else "message"] == (
        " t1 t2 t3" if prompt else {"role": "assistant", "content": " t1 t2 t3", "reasoning": " t0"}
    )


def test_completions_stream(start_golden: StartGolden) -> None:
    """A streamed text completion has text where a chat has a delta."""
    events = payloads(
        exchange(start_golden(role="none"), request_bytes("a", path="/v1/completions", prompt="x", messages=None))
    )

    assert [event["choices"][0]["text"] for event in events[:-2]] == [" t0", " t1", " t2", " t3"]


def test_several_tokens_in_an_event(start_golden: StartGolden) -> None:
    """An event with several tokens leaves when its last is due, and the truth counts them."""
    server = start_golden(tokens_per_event=3)
    events = payloads(exchange(server, request_bytes("a", max_tokens=7)))
    truth = server.truth("a")

    assert content(events) == " t0 t1 t2 t3 t4 t5 t6"
    assert [event.tokens for event in truth.events] == [3, 3, 1]
    assert truth.events[0].due_s == pytest.approx(truth.arrived_s + 0.02 + 2 * 0.004, abs=1e-6)


def test_early_role_chunk_is_no_token(start_golden: StartGolden) -> None:
    """An early role chunk arrives long before the first token and is not in the truth."""
    server = start_golden(role="early", ttft_s=0.3)
    with connect(server) as sock:
        sent_s = time.monotonic()
        sock.sendall(request_bytes("a", max_tokens=1))
        received = b""
        while b"assistant" not in received:
            received += sock.recv(65536)
        role_s = time.monotonic() - sent_s
        while sock.recv(65536):
            pass

    assert role_s < 0.25
    (event,) = server.truth("a").events
    assert event.lo_s >= sent_s + 0.3


@pytest.mark.parametrize("trap", [{"split_at": 2}, {"split_every": True}])
def test_split_event_counts_from_its_last_byte(start_golden: StartGolden, trap: dict[str, Any]) -> None:
    """An event cut in two is complete, and true, only with its second segment."""
    server = start_golden(split_s=0.05, **trap)
    events = payloads(exchange(server, request_bytes("a")))
    truth = server.truth("a")

    assert content(events) == " t0 t1 t2 t3"
    assert truth.events[2].due_s >= truth.arrived_s + 0.02 + 2 * 0.004 + 0.05 - 1e-6
    assert len(truth.events) == 4


def test_reasoning_is_a_channel_of_its_own(start_golden: StartGolden) -> None:
    """Reasoning tokens come in their own field and are tokens all the same."""
    server = start_golden(reasoning_tokens=2)
    events = payloads(exchange(server, request_bytes("a")))

    assert [event["choices"][0]["delta"].get("reasoning") for event in events[1:-2]] == [" t0", " t1", None, None]
    assert len(server.truth("a").events) == 4


def test_error_event_in_the_stream(start_golden: StartGolden) -> None:
    """An error event under status 200 ends the stream, [DONE] behind it as vLLM does."""
    server = start_golden(error_at=2)
    events = payloads(exchange(server, request_bytes("a")))

    assert events[-2]["error"]["code"] == 500
    assert events[-1] == "[DONE]"
    assert server.truth("a").ended == "error"
    assert len(server.truth("a").events) == 2


def test_abort_ends_in_the_middle(start_golden: StartGolden) -> None:
    """An aborted stream ends without its last chunk."""
    server = start_golden(abort_at=2)
    answer = exchange(server, request_bytes("a"))

    assert not answer.endswith(b"0\r\n\r\n")
    assert len(payloads(answer)) == 3
    assert server.truth("a").ended == "abort"


def test_reset_is_a_reset(start_golden: StartGolden) -> None:
    """A reset connection gives ECONNRESET, not an end of file."""
    server = start_golden(reset_at=2)
    with pytest.raises(ConnectionResetError):
        exchange(server, request_bytes("a"))
    assert server.truth("a").ended == "reset"


@pytest.mark.parametrize(
    ("trap", "ended"),
    [({"reset_at": 0}, "reset"), ({"abort_at": 0}, "abort"), ({"error_at": 0}, "error"), ({"status": 429}, "status")],
)
def test_traps_without_streaming(start_golden: StartGolden, trap: dict[str, Any], ended: str) -> None:
    """Each way to fail has a form without streaming."""
    server = start_golden(**trap)
    request = request_bytes("a", stream=None, stream_options=None)
    if ended == "reset":
        with pytest.raises(ConnectionResetError):
            exchange(server, request)
    else:
        first = {"abort": b"HTTP/1.1 200", "error": b"HTTP/1.1 500", "status": b"HTTP/1.1 429"}[ended]
        assert exchange(server, request).startswith(first)
    assert server.truth("a").ended == ended
    assert server.truth("a").events == []


def test_stall_delays_everything_after(start_golden: StartGolden) -> None:
    """A stall puts its length before its token and all later ones."""
    server = start_golden(stall_at=2, stall_s=0.2)
    exchange(server, request_bytes("a"))
    truth = server.truth("a")

    offsets = [event.due_s - truth.arrived_s for event in truth.events]
    assert offsets == pytest.approx([0.02, 0.024, 0.228, 0.232], abs=1e-6)


def test_jitter_is_seeded(start_golden: StartGolden) -> None:
    """The same seed and request id draw the same jitter; another seed another."""

    def offsets(server: GoldenServer) -> list[float]:
        exchange(server, request_bytes("a", max_tokens=10))
        truth = server.truth("a")
        return [event.due_s - truth.arrived_s for event in truth.events]

    first, again, other = (offsets(start_golden(jitter_s=0.01, seed=seed)) for seed in (1, 1, 2))

    assert first == pytest.approx(again, abs=1e-6)
    assert first != pytest.approx(other, abs=1e-6)
    assert first == sorted(first)
