"""Events that pass unparsed: what is like an example says the same as if it had been parsed, whatever it holds."""

from __future__ import annotations

import json

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reference_stack.services.infrastructure.api_gateway.events import Kind, Tally
from reference_stack.services.infrastructure.api_gateway.likeness import Likeness
from reference_stack.services.infrastructure.api_gateway.passage import Passage, State
from reference_stack.services.infrastructure.api_gateway.shortcut import Shortcut
from reference_stack.services.infrastructure.api_gateway.wire.chunk import payload_at
from tests.reference_stack.infrastructure.conftest import DONE, USAGE_EVENT, event, text_event

BEFORE = b'data: {"choices":[{"index":0,"delta":{"content":"'
BEHIND = b'"},"finish_reason":null}]}\n\n'
# Some are no text of a JSON string, or end it: the event is then another one, or none.
INSIDES = st.one_of(
    st.binary(max_size=12),
    st.text(max_size=12).map(lambda text: json.dumps(text, ensure_ascii=False).encode()[1:-1]),
    st.text(max_size=6).map(lambda text: json.dumps(text).encode()[1:-1]),
    st.lists(st.sampled_from([b"\\", b'"', b"n", b"\n", b"\r", b"u0041", b"\xc3", b"\xa9", b"}]", b":"])).map(b"".join),
    st.just(b'"},"finish_reason":"stop"}],"x":[{"delta":{"content":"'),
)
ODD = st.sampled_from([text_event("last", "stop"), USAGE_EVENT, b": note\n\n", b"data: {\n\n", b"data: x", DONE])


def learned() -> Likeness:
    likeness = Likeness()
    likeness.learn(BEFORE + b"x" + BEHIND)
    assert likeness.has(BEFORE + b"y" + BEHIND, 0, len(BEFORE + b"y" + BEHIND)), "the example was not taken"
    return likeness


@given(INSIDES)
@example(b"\xed\xa0\x80")
@example(b"\\ud800")
def test_what_is_like_an_example_is_text_and_nothing_else(inside: bytes) -> None:
    """Whatever stands in the place of the text: what is taken for text would be text if it was parsed."""
    data = BEFORE + inside + BEHIND
    if learned().has(data, 0, len(data)):
        tally = Tally()
        assert tally.read(data) is Kind.CONTENT
        assert (tally.texts, tally.finished, tally.usage) == (1, 0, None)


@pytest.mark.parametrize("text", ["a", " the", "é", "\u4f60", "\U0001f600", '"', "\\", "\n\n", "\t", "a/b", "\u2028"])
def test_ordinary_texts_need_no_parsing(text: str) -> None:
    """Letters of any script, quotes and line ends, as servers spell them, are recognized."""
    data = BEFORE + json.dumps(text, ensure_ascii=False).encode()[1:-1] + BEHIND
    assert learned().has(data, 0, len(data))


@pytest.mark.parametrize(
    "bad",
    [
        event({"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}]}),
        event({"choices": [{"delta": {"content": "x"}}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}),
        event({"choices": [{"delta": {"content": "x"}}, {"delta": {"content": "x"}}]}),
        event({"meta": {"content": "x"}, "choices": [{"delta": {"content": "y"}}]}),
        event(b'{"choices":[{"delta":{"content":"x","content":"y"}}]}'),
        event(b'{"choices":[{"delta":{"content":"x\\u00e9"}}]}'),
        event(b'{"choices":\n[{"delta":{"content":"x"}}]}'),
        b'data: {"choices":[{"delta":{"content":"x"}}]}\r\n\r\n',
        b'data:{"choices":[{"delta":{"content":"x"}}]}\n\n',
    ],
)
def test_what_may_say_more_is_no_example(bad: bytes) -> None:
    """An event that finishes, counts, has text twice or is spelt in an unusual way is not learned from."""
    likeness = Likeness()
    likeness.learn(bad)
    assert not likeness.has(bad, 0, len(bad))


def test_lessons_have_an_end() -> None:
    """A server whose events are never alike costs a few lessons, not one for each event."""
    likeness = Likeness()
    for number in range(100):
        likeness.learn(BEFORE.replace(b'"index"', b'"created":%d,"index"' % number) + b"x" + BEHIND)
    assert not likeness.has(BEFORE + b"x" + BEHIND, 0, len(BEFORE + b"x" + BEHIND))
    last = BEFORE.replace(b'"index"', b'"created":7,"index"') + b"x" + BEHIND
    assert likeness.has(last, 0, len(last))


@given(st.lists(st.one_of(INSIDES.map(lambda inside: BEFORE + inside + BEHIND), ODD), max_size=12))
def test_a_stream_passes_alike_both_ways(payloads: list[bytes]) -> None:
    """Chunk by chunk with the short way, the client gets the bytes, and the tally the counts, of the long way alone."""
    short, long = (Passage(strip_usage=True, most_held_bytes=10_000) for _ in range(2))
    passed: list[list[bytes]] = [[], []]
    for payload in payloads:
        if long.state is State.OPEN:
            passed[1].append(_parsed(long, payload))
        if short.state is State.OPEN:
            passed[0].append(_shortened(short, payload))

    assert (passed[0], short.state) == (passed[1], long.state)
    assert (short.tally.texts, short.tally.finished) == (long.tally.texts, long.tally.finished)


def _shortened(passage: Passage, payload: bytes) -> bytes:
    """Let `payload` go the short way, in a chunk of its own, if it may and can."""
    sent: list[bytes] = []
    way = Shortcut(passage.likeness, passage.tally, lambda: None, lambda _texts: None, sent.append)
    wire = b"%x\r\n%b\r\n" % (len(payload), payload)
    if not passage.settled or not way.takes(wire):
        return passage.feed(payload)
    assert sent == [wire]
    return payload


def _parsed(passage: Passage, payload: bytes) -> bytes:
    """Feed `payload`, every event of it parsed: what was learned is forgotten."""
    passage.likeness = Likeness()
    return passage.feed(payload)


@given(st.integers(0, 5000).map(lambda size: b"x" * size))
def test_a_chunk_is_told_by_its_size(payload: bytes) -> None:
    """A chunk of 1 byte to nearly 4 KiB is one; its end and larger ones are left to the parser."""
    wire = b"%x\r\n%b\r\n" % (len(payload), payload)
    at = payload_at(wire)
    assert wire[at:-2] == payload if payload and len(wire) < 4096 else at == 0


@given(
    st.one_of(
        st.binary(max_size=40),
        st.tuples(st.sampled_from([b"5", b"05", b"+5", b"5 ", b"5;a", b"A", b"a", b"0"]), st.binary(max_size=20)).map(
            lambda parts: parts[0] + b"\r\n" + parts[1] + b"\r\n"
        ),
    )
)
@example(b"5\r\n\r\nabc\r\n")
@example(b"3\r\nabc\r\n3\r\nabc\r\n")
def test_what_is_no_single_chunk_is_left_to_the_parser(data: bytes) -> None:
    """Whatever is taken for one chunk is exactly that to the parser of HTTP as well."""
    at = payload_at(data)
    if at:
        seen = Seen()
        parser = httptools.HttpResponseParser(seen)
        parser.feed_data(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + data)
        assert (seen.bodies, seen.chunks) == ([data[at:-2]], 1)


class Seen:
    """What the parser of HTTP makes of an answer."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.chunks = 0

    def on_body(self, body: bytes) -> None:
        self.bodies.append(body)

    def on_chunk_complete(self) -> None:
        self.chunks += 1
