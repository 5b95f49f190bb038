"""Events that pass unparsed: what is like an example says the same as if it had been parsed, whatever it holds."""

from __future__ import annotations

import itertools
import json

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reference_stack.services.infrastructure.api_gateway.events import Kind, Tally
from reference_stack.services.infrastructure.api_gateway.likeness import Likeness
from reference_stack.services.infrastructure.api_gateway.passage import Passage, State
from reference_stack.services.infrastructure.api_gateway.ports import Mark
from reference_stack.services.infrastructure.api_gateway.shortcut import Shortcut
from reference_stack.services.infrastructure.api_gateway.wire.chunk import chunk_at
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


OWN = st.builds(
    b'data: {"id":"%b","object":"%b","created":%b,'.__mod__,
    st.tuples(
        st.sampled_from([b"chatcmpl-1", b"cmpl_2", b"", b'a"', b"a\\", b"\xc3", b'a","choices":[],"b":"c']),
        st.sampled_from([b"chat.completion.chunk", b"text_completion", b"A", b'x","usage":{"prompt_tokens":1},"y":"z']),
        st.sampled_from([b"0", b"1700000000", b"007", b"-1", b"1.5", b"", b'"x"', b"1,"]),
    ),
)
RESTS = st.sampled_from(
    [BEFORE.removeprefix(b"data: {"), b"}", b' "choices":[{"text":"', b'"error":1,"choices":[{"text":"']
)


@given(st.lists(st.tuples(OWN, RESTS), min_size=2, max_size=8))
@example([(b'data: {"id":"a","created":%b,' % created, BEFORE[len(b"data: {") :]) for created in (b"1", b"01")])
def test_another_stream_is_learned_from_as_if_it_was_the_first(events: list[tuple[bytes, bytes]]) -> None:
    """Whatever an event has for id and time, and whatever was learned before: it is an example if it brings text."""
    for own, rest in events:
        data = own + rest + b"x" + (BEHIND if b"delta" in rest else b'"}]}\n\n')
        likeness, tally = Likeness(), Tally()
        likeness.learn(data)
        brings_text = tally.read(data) is Kind.CONTENT and (tally.texts, tally.finished, tally.usage) == (1, 0, None)
        assert likeness.has(data, 0, len(data)) is brings_text


EVENTS = st.one_of(INSIDES.map(lambda inside: BEFORE + inside + BEHIND), ODD)


@given(st.lists(st.lists(EVENTS, min_size=1, max_size=5), max_size=8))
def test_a_stream_passes_alike_both_ways(reads: list[list[bytes]]) -> None:
    """However many events a read brings, with the short way the client gets the bytes, and the tally the counts, of the
    long way alone.
    """
    short, long = (Passage(strip_usage=True, most_held_bytes=10_000) for _ in range(2))
    passed: list[bytes] = [b"", b""]
    for payloads in reads:
        if long.state is State.OPEN:
            passed[1] += _parsed(long, b"".join(payloads))
        if short.state is State.OPEN:
            passed[0] += _shortened(short, payloads)

    assert (passed[0], short.state) == (passed[1], long.state)
    assert (short.tally.texts, short.tally.finished) == (long.tally.texts, long.tally.finished)


def _shortened(passage: Passage, payloads: list[bytes]) -> bytes:
    """Let `payloads` go the short way, a chunk each, as many as may and can, and the rest the long one."""
    sent: list[bytes] = []
    words, ear = [0, 0], Ear()
    way = Shortcut(passage.likeness, passage.tally, ear, Mark(words, 1, 7), sent.append)
    chunks = [b"%x\r\n%b\r\n" % (len(each), each) for each in payloads]
    taken = way.takes(b"".join(chunks)) if passage.settled else 0
    count = next(count for count in range(len(chunks) + 1) if len(b"".join(chunks[:count])) == taken)
    assert b"".join(sent) == b"".join(chunks[:count])
    assert (ear.heard, words) == (count > 0, [0, 7 + passage.tally.texts if count else 0])
    long = passage.feed(b"".join(payloads[count:]))
    passage.learn()
    return b"".join(payloads[:count]) + long


def _parsed(passage: Passage, data: bytes) -> bytes:
    """Feed `data`, every event of it parsed: nothing is learned."""
    return passage.feed(data)


class Ear:
    heard = False


@given(st.integers(0, 5000).map(lambda size: b"x" * size), st.binary(max_size=9))
def test_a_chunk_is_told_by_its_size(payload: bytes, before: bytes) -> None:
    """A chunk of 1 byte to nearly 4 KiB is one, wherever it begins; its end and larger ones are left to the parser."""
    wire = before + b"%x\r\n%b\r\n" % (len(payload), payload)
    begins, ends = chunk_at(wire, len(before))
    assert wire[begins:ends] == payload if 0 < len(payload) < 4096 else (begins, ends) == (0, 0)


SIZES = st.sampled_from([b"5", b"05", b"+5", b"5 ", b"5;a", b"A", b"a", b"0", b"5_5", b"0x5", b"", b"fff", b"1000"])
PIECES = st.one_of(
    st.binary(max_size=40),
    st.tuples(SIZES, st.binary(max_size=20)).map(lambda parts: parts[0] + b"\r\n" + parts[1] + b"\r\n"),
    st.binary(min_size=1, max_size=20).map(lambda payload: b"%x\r\n%b\r\n" % (len(payload), payload)),
)


@given(st.lists(PIECES, min_size=1, max_size=4).map(b"".join))
@example(b"5\r\n\r\nabc\r\n")
@example(b"3\r\nabc\r\n3\r\nabc\r\n")
def test_what_is_no_chunk_is_left_to_the_parser(data: bytes) -> None:
    """Whatever is taken for chunks is exactly that to the parser of HTTP as well."""
    taken, payloads = 0, []
    while (found := chunk_at(data, taken)) != (0, 0):
        payloads.append(data[slice(*found)])
        taken = found[1] + 2
    seen = Seen()
    parser = httptools.HttpResponseParser(seen)
    parser.feed_data(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + data[:taken])
    assert (seen.bodies, seen.chunks) == (payloads, len(payloads))


TEXTS = st.text(st.characters(exclude_characters='"\\', min_codepoint=0x20, max_codepoint=0x3000), max_size=30)


@given(st.lists(TEXTS.map(lambda text: BEFORE + text.encode() + BEHIND), min_size=1, max_size=5), st.binary(max_size=9))
@example([BEFORE + b"x" * 4096 + BEHIND], b"")
@example([BEFORE + b"x" * 3900 + BEHIND] * 2, b"")
def test_events_alike_are_taken_up_to_the_first_that_is_not(events: list[bytes], rest: bytes) -> None:
    """Chunks with text of one read are passed on in one write, up to one that is not whole, is empty or is large."""
    sent: list[bytes] = []
    way = Shortcut(learned(), Tally(), Ear(), Mark([0], 0, 0), sent.append)
    chunks = [b"%x\r\n%b\r\n" % (len(each), each) for each in events]
    good = list(itertools.takewhile(lambda each: len(BEFORE + BEHIND) < len(each) < 4096, events))
    whole = b"".join(chunks[: len(good)])
    assert way.takes(b"".join(chunks) + rest) == len(whole)
    assert sent == ([whole] if whole else [])


class Seen:
    """What the parser of HTTP makes of an answer."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.chunks = 0

    def on_body(self, body: bytes) -> None:
        self.bodies.append(body)

    def on_chunk_complete(self) -> None:
        self.chunks += 1
