"""A stream that is read at once says what it says when it is read event by event."""

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hxp_harness.load.answer import Answer, Read, read_stream
from hxp_harness.load.chunk import Chunk, chunk_of, read_at_once
from tests.hxp_harness.load.conftest import FINISH, event, events, token, usage

KEYS = (
    "choices", "usage", "error", "delta", "message", "text", "content", "reasoning", "reasoning_content", "tool_calls",
    "finish_reason", "prompt_tokens", "completion_tokens", "prompt_tokens_details", "cached_tokens", "id",
)  # fmt: skip
SCALARS = (
    st.none() | st.booleans() | st.integers(-3, 2**70) | st.sampled_from(["", "a", "stop", "abort", "\n\ndata: {"])
)
TREES = st.recursive(
    SCALARS | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)
DELTAS = st.dictionaries(st.sampled_from(KEYS[6:10]), SCALARS | TREES, max_size=2)
CHOICES = st.fixed_dictionaries({}, optional={"delta": DELTAS, "message": DELTAS, "text": SCALARS, KEYS[10]: SCALARS})
USAGES = st.dictionaries(st.sampled_from(KEYS[11:14]), SCALARS | st.fixed_dictionaries({"cached_tokens": SCALARS}))
MESSAGES = st.fixed_dictionaries(
    {}, optional={"choices": st.lists(CHOICES | TREES, max_size=2), "usage": USAGES | TREES, "error": SCALARS}
)
LINES = st.sampled_from(
    [b"data: [DONE]\n\n", b": hello\n\n", b"data: {}\n\n", b"data: {\n\n", b"data: {} {}\n\n", b"\n"]
)


def one_read(body: bytes) -> list[Read]:
    return [Read(len(body), 1, 3, 2)]


def by_parts(body: bytes) -> Answer:
    """Read `body` with a comment before it, which is no part of OpenAI's shape and says nothing."""
    return read_stream(b":\n\n" + body, one_read(b":\n\n" + body))


@given(st.lists(MESSAGES.map(event) | TREES.map(lambda tree: b"data: " + msgspec.json.encode(tree) + b"\n\n") | LINES))
@example([event({"choices": [{"text": "a"}], "usage": {"completion_tokens": 3.0}})])
@example([b'data: {"a":1,\n\n', b'data: "b":2}\n\n', b"data: {} {}\n\n"])
def test_both_ways_of_reading_agree(parts: list[bytes]) -> None:
    """Whatever a server sends, of OpenAI's shape or not, reading it at once changes nothing but the cost."""
    body = b"".join(parts)
    assert read_stream(body, one_read(body)) == by_parts(body)


@pytest.mark.parametrize("done", [True, False])
def test_a_stream_of_the_usual_shape_is_read_at_once(*, done: bool) -> None:
    """The cheap way is the usual one, with the place where each event ends and whether [DONE] was there."""
    parts = events(3) if done else events(3)[:-1]
    found = read_at_once(b"".join(parts))
    assert found is not None
    told = parts[: len(found.messages)]
    assert len(told) == len(parts) - done
    assert (found.ends, found.done) == ([len(b"".join(told[: place + 1])) for place in range(len(told))], done)


@pytest.mark.parametrize(
    "parts",
    [
        [b": a comment\n\n", event(token())],
        [event(token()).replace(b"\n\n", b"\r\n\r\n")],
        [event(token())[:-1]],
        [event(token()), event({"error": {"message": "gone"}})],
        [b"event: error\n", event(token())],
        [event({"choices": [{"delta": {"content": 3}}]})],
        [b"data: {} {}\n\n"],
        [b""],
    ],
)
def test_what_is_not_quite_so_is_left_to_the_other_way(parts: list[bytes]) -> None:
    """Comments, other line ends, a cut, an error, an event's name, another type: none of it is guessed at."""
    assert read_at_once(b"".join(parts)) is None


def test_fields_of_another_type_say_nothing() -> None:
    """True and -1 are no numbers of tokens, and a text that is a number is still content."""
    said = chunk_of(
        {"choices": [{"text": 3, "finish_reason": 1}, "x"], "usage": {"prompt_tokens": True, "completion_tokens": -1}}
    )
    assert isinstance(said, Chunk)
    assert said.usage is not None
    assert (said.usage.prompt_tokens, said.usage.completion_tokens) == (None, None)
    assert said.choices is not None
    assert [(one.has_content, one.finish_reason) for one in said.choices] == [(True, None)]


def test_a_usual_body_says_all_it_has() -> None:
    """Tokens, finish and usage come out of a body that was read at once."""
    parts = [event(token("a")), event(FINISH), event(usage(1))]
    answer = read_stream(b"".join(parts), one_read(b"".join(parts)))
    assert (answer.chunks, answer.finish_reason, answer.output_tokens) == (1, "length", 1)
