"""How the gateway reads a stream: cut at events and nowhere else, whatever pieces it comes in."""

from __future__ import annotations

import itertools

from hypothesis import example, given
from hypothesis import strategies as st

from reference_stack.services.infrastructure.api_gateway.events import Kind, Splitter, Tally, read_answer
from reference_stack.services.infrastructure.api_gateway.passage import Passage, State
from tests.reference_stack.infrastructure.conftest import DONE, ROLE, TEXTS, USAGE_EVENT, event, text_event

LINE = st.sampled_from([b"data: x", b": note", b"event: y", "data: \u2028é".encode(), b"data:", b"id: 1"])
ENDING = st.sampled_from([b"\n", b"\r\n", b"\r"])


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Events of one to three lines, each with an ending of its own."""
    ending = draw(ENDING)
    lines = st.lists(LINE, min_size=1, max_size=3)
    return [ending.join(each) + ending * 2 for each in draw(st.lists(lines, min_size=1, max_size=5))]


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


@given(streams(), st.lists(st.integers(0, 10_000)))
@example([b"data: x\r\n\r\n"], [1, 8, 9, 10])
def test_events_are_cut_alike_whatever_the_pieces(events: list[bytes], cuts: list[int]) -> None:
    """Every event comes out once, whole and in order, as soon as its end is certain; no byte is lost."""
    data = b"".join(events)
    splitter = Splitter()

    found = [each for piece in pieces(data, cuts) for each in splitter.feed(piece)]

    assert b"".join([*found, splitter.take()]) == data
    # Of a lone CR at the very end nobody knows yet whether an LF follows.
    assert found == events or (data.endswith(b"\r") and found == events[:-1])


@given(st.lists(st.integers(0, 10_000)))
def test_what_passes_does_not_depend_on_the_pieces(cuts: list[int]) -> None:
    """The client gets the same bytes however the network cuts them."""
    data = b"".join((b": hello\n\n", *TEXTS, USAGE_EVENT, DONE, b"data: more\n\n"))
    passage = Passage(strip_usage=True, most_held_bytes=10_000)

    passed = b"".join(passage.feed(piece) for piece in pieces(data, cuts) if passage.state is State.OPEN)

    assert passed == b"".join((b": hello\n\n", *TEXTS, DONE))
    assert passage.state is State.FINISHED
    assert passage.tally.texts == 3
    assert passage.tally.usage is not None


@given(st.lists(st.binary(max_size=50), max_size=10))
def test_no_bytes_break_a_passage(parts: list[bytes]) -> None:
    """Whatever comes, the state is settled in the end and is not a success."""
    passage = Passage(strip_usage=True, most_held_bytes=1000)
    for part in parts:
        if passage.state is State.OPEN:
            passage.feed(part)

    passage.end()

    assert passage.state is State.FAILED


def test_end_of_a_finished_stream_adds_nothing() -> None:
    """A stream that is settled stays so."""
    passage = Passage(strip_usage=False, most_held_bytes=1000)
    passage.feed(b"".join((*TEXTS, DONE)))

    assert (passage.end(), passage.state) == (b"", State.FINISHED)


def test_events_are_what_they_say() -> None:
    """Comments, fields, several data lines, a byte order mark, reasoning text and text completions are understood."""
    tally = Tally()
    assert tally.read(b": ping\n\n") is Kind.OTHER
    assert tally.read(b"event: x\nid: 1\n\n") is Kind.OTHER
    assert tally.read(b"\xef\xbb\xbfdata: [DONE]\n\n") is Kind.DONE
    assert tally.read(b"data:[DONE]\r\n\r\n") is Kind.DONE
    assert tally.read(b'data: {"choices":\ndata: []}\n\n') is Kind.USAGE
    assert tally.read(event({"error": None, "choices": [{"delta": {"reasoning": "hm"}}]})) is Kind.CONTENT
    assert tally.read(event({"choices": [{"text": "x", "finish_reason": "stop"}]})) is Kind.CONTENT
    assert tally.read(ROLE) is Kind.CONTENT
    assert (tally.texts, tally.finished) == (2, 1)


def test_what_is_no_event_of_a_completion_is_an_error() -> None:
    """Errors, other JSON, no JSON and wrong types are never taken for text."""
    tally = Tally()
    for data in ({"error": "x"}, {"object": "error"}, {"choices": "x"}, [1], b"x", b"[" * 100_000, b""):
        assert tally.read(event(data)) is Kind.ERROR
    assert tally.texts == 0


def test_continuous_usage_is_read_and_passed_on() -> None:
    """A model that counts along has its last word taken, and its events stay content."""
    tally = Tally()
    for count in (1, 2):
        counted = {"choices": [{"delta": {"content": "x"}}], "usage": {"prompt_tokens": 7, "completion_tokens": count}}
        assert tally.read(event(counted)) is Kind.CONTENT
    assert tally.usage is not None
    assert tally.usage.completion_tokens == 2


def test_a_large_event_is_read_in_linear_time() -> None:
    """16 MiB that come in small pieces are not copied again for each."""
    splitter = Splitter()
    large = text_event("x" * (16 << 20))

    found = [each for at in range(0, len(large), 16_384) for each in splitter.feed(large[at : at + 16_384])]

    assert found == [large]


def test_a_whole_answer_may_lack_its_usage() -> None:
    """An answer without usage is an answer."""
    assert read_answer(b'{"choices":[{}]}') is None
