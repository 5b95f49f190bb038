"""Tokens, times, usage and failures are read from a body as they are, and from nothing else."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hxp_harness.load.answer import Answer, Read, judge_end, read_stream, read_whole, said, said_by
from hxp_harness.trace import ErrorKind
from tests.hxp_harness.load.conftest import FINISH, ROLE, completion, event, events, token, usage


def reads_of(parts: list[bytes]) -> list[Read]:
    """Return reads 100 ns apart, each with a stamp of its own; the socket was empty 10 ns before."""
    ends = [sum(map(len, parts[: place + 1])) for place in range(len(parts))]
    return [Read(end, place * 100 - 10, place * 100, place * 100) for place, end in enumerate(ends, start=1)]


def judged(parts: list[bytes]) -> Answer:
    answer = read_stream(b"".join(parts), reads_of(parts))
    judge_end(answer)
    return answer


def test_each_token_has_the_stamp_of_its_read() -> None:
    """Events that were read one by one have exact times, and the role chunk is no token."""
    answer = judged(events(3))
    assert (answer.chunks, answer.output_tokens, answer.prompt_tokens) == (3, 3, 7)
    assert answer.token_lo_ns == answer.token_hi_ns == [200, 300, 400]
    assert (answer.finish_reason, answer.error) == ("length", ErrorKind.NONE)


def test_of_events_read_at_once_only_the_last_has_a_stamp() -> None:
    """The others lie between the time when the socket was last seen empty and the stamp."""
    first, *rest = events(3)
    answer = judged([first + b"".join(rest[:3]), *rest[3:]])
    assert answer.token_lo_ns == [90, 90, 100]
    assert answer.token_hi_ns == [100, 100, 100]


def test_an_event_counts_when_its_last_byte_came() -> None:
    """A split event belongs to the read that completed it."""
    role, one, *rest = events(1)
    answer = judged([role, one[:9], one[9:], *rest])
    assert answer.token_hi_ns == [300]


@given(data=st.data(), count=st.integers(0, 6))
def test_the_same_tokens_whatever_the_splits(data: st.DataObject, count: int) -> None:
    """Where reads end changes times within their bounds, never what was said."""
    body = b"".join(events(count + 1))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(body) - 1), max_size=12)))
    parts = [body[low:high] for low, high in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    answer = judged(parts)
    assert (answer.chunks, answer.output_tokens, answer.error) == (count + 1, count + 1, ErrorKind.NONE)
    assert len(answer.token_lo_ns) == count + 1
    assert answer.token_hi_ns == sorted(answer.token_hi_ns)
    assert all(low <= high for low, high in zip(answer.token_lo_ns, answer.token_hi_ns, strict=True))


@given(st.integers(0, 1000))
def test_no_prefix_of_an_answer_is_a_success(cut: int) -> None:
    """An answer that ends before its usage is truncated, wherever it was cut."""
    *most, last, _ = events(5)
    body = b"".join(most) + last[:-1]
    part = body[: cut % len(body)]
    answer = judged([part])
    assert answer.error is ErrorKind.TRUNCATED


@pytest.mark.parametrize(
    "choice",
    [
        {"delta": {"content": "a"}},
        {"delta": {"reasoning": "a"}},
        {"delta": {"reasoning_content": "a"}},
        {"delta": {"tool_calls": [{"index": 0}]}},
        {"text": "a"},
    ],
    ids=lambda choice: str(next(iter(choice.get("delta", choice)))),
)
def test_content_on_any_channel_is_a_token(choice: dict[str, object]) -> None:
    """Text, reasoning and tool calls count alike."""
    assert judged([event({"choices": [choice]}), event(FINISH), event(usage(1))]).chunks == 1


@pytest.mark.parametrize("delta", [{}, {"role": "assistant"}, {"content": ""}, {"content": None}, {"tool_calls": []}])
def test_a_chunk_without_content_is_no_token(delta: dict[str, object]) -> None:
    """A role or an empty string does not end the time to the first token."""
    answer = judged([event({"choices": [{"delta": delta}]}), event(token()), event(FINISH), event(usage(1))])
    assert answer.token_hi_ns == [200]


def test_a_chunk_of_several_tokens_counts_as_the_usage_grew() -> None:
    """With continuous usage a chunk stands for its tokens; held-back ones arrive with the text."""

    def counted(text: str, count: int) -> bytes:
        return event(token(text, usage={"prompt_tokens": 7, "completion_tokens": count}))

    answer = judged([counted("a", 2), counted("", 3), counted("b", 5), event(FINISH), event(usage(5))])
    assert answer.token_hi_ns == [100, 100, 300, 300, 300]
    assert (answer.chunks, answer.output_tokens) == (2, 5)


def test_cached_tokens_are_taken_where_the_server_says() -> None:
    """The usage details tell how much of the prompt was cached."""
    told = {
        "choices": [],
        "usage": {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 4}},
    }
    assert judged([event(token()), event(FINISH), event(told)]).cached_tokens == 4
    untold = {"choices": [], "usage": {"prompt_tokens": True, "completion_tokens": 1, "prompt_tokens_details": None}}
    assert judged([event(token()), event(FINISH), event(untold)]).cached_tokens is None


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        ([event(token()), event({"error": {"message": "engine died"}}), event(b"[DONE]")], ErrorKind.STREAM_ERROR),
        ([event(token()), b"event: error\n" + event({"message": "engine died"})], ErrorKind.STREAM_ERROR),
        ([event(token()), b"event: error\n" + event(b"engine died")], ErrorKind.STREAM_ERROR),
        ([event(token()), event({"choices": [{"finish_reason": "abort"}]}), event(usage(1))], ErrorKind.STREAM_ERROR),
        ([event(token()), event(b"{half")], ErrorKind.BAD_SSE),
        ([event(token()), event(b"[1]")], ErrorKind.BAD_SSE),
        ([event(b'{"choices": "\xff"}')], ErrorKind.BAD_SSE),
        ([event(token()), event(usage(1)), event(b"[DONE]")], ErrorKind.TRUNCATED),
        ([event(token()), event(FINISH)], ErrorKind.TRUNCATED),
        ([event(ROLE), event(FINISH), event(usage(0)), event(b"[DONE]")], ErrorKind.TRUNCATED),
        ([event(token()), event(FINISH), event(b"[DONE]")], ErrorKind.NO_USAGE),
        ([event({"choices": 3}), event({"choices": [3]}), event({"usage": 3})], ErrorKind.TRUNCATED),
    ],
)
def test_each_way_to_fail_is_its_own_kind(parts: list[bytes], error: ErrorKind) -> None:
    """No broken stream is a success, and each says why."""
    answer = judged(parts)
    assert answer.error is error
    assert answer.detail


def test_an_answer_without_done_but_with_everything_else_is_complete() -> None:
    """A server that never writes [DONE] is not punished for it."""
    assert judged([event(token()), event(FINISH), event(usage(1))]).error is ErrorKind.NONE


def test_nothing_counts_after_done() -> None:
    """Data behind [DONE] is not part of the answer."""
    assert judged([*events(2), event(token())]).chunks == 2


def test_a_whole_answer_arrives_with_its_last_byte() -> None:
    """Without streaming there is one arrival."""
    body = json.dumps(completion(4)).encode()
    answer = read_whole(body, reads_of([body[:10], body[10:]]))
    assert (answer.token_lo_ns, answer.token_hi_ns, answer.output_tokens) == ([200], [200], 4)
    assert answer.error is ErrorKind.NONE


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"<html>", ErrorKind.BAD_SSE),
        (b"[]", ErrorKind.BAD_SSE),
        (b'{"error": {"message": "no"}}', ErrorKind.STREAM_ERROR),
        (b"{}", ErrorKind.TRUNCATED),
        (b'{"choices": [{"text": "a", "finish_reason": "stop"}]}', ErrorKind.NO_USAGE),
    ],
)
def test_a_whole_answer_can_fail_too(body: bytes, error: ErrorKind) -> None:
    """A 200 is no success by itself."""
    assert read_whole(body, reads_of([body])).error is error


def test_error_bodies_of_every_shape_are_put_into_words() -> None:
    """OpenAI's, FastAPI's and plain text errors become one line, cut to 200 characters."""
    assert said({"error": {"message": "no model", "code": 404}}) == "no model"
    assert said({"error": "Unauthorized"}) == "Unauthorized"
    assert said({"detail": "Not Found"}) == "Not Found"
    assert said({"other": 1}) == '{"other":1}'
    assert said_by(b"bad\xff gateway\n") == "bad\ufffd gateway"
    assert len(said_by(msgspec.json.encode({"error": "x" * 999}))) == 200
