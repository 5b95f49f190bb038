"""HTTP responses are read the same wherever their bytes were cut."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hxp_harness.load.reply import BODY_LIMIT_BYTES, BadReply, Reply
from tests.hxp_harness.load.conftest import STREAM_HEAD, chunk, events, stream


@given(st.sets(st.integers(1, 400), max_size=12))
def test_a_response_may_be_cut_anywhere(cuts: set[int]) -> None:
    """The body is the same, and every byte of it belongs to the read that brought it."""
    text = stream(events(2))
    places = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    reply = Reply()
    for number, (low, high) in enumerate(itertools.pairwise(places), start=1):
        reply.feed(text[low:high], number * 100 - 10, number * 100, number * 100)
    assert reply.done
    assert reply.keep_alive
    assert b"".join(reply.parts) == b"".join(events(2))
    ends = [read.end for read in reply.reads]
    assert ends == sorted(set(ends))
    assert ends[-1] == reply.body_bytes
    reply.close()


def test_a_read_that_ends_within_the_next_chunk_has_no_stamp_of_its_own() -> None:
    """The stamp belongs to the last byte, which may have come after the event."""
    first, second = events(1)[:2]
    reply = Reply()
    reply.feed(STREAM_HEAD + chunk(first) + chunk(second)[:2], 10, 20, 20)
    reply.feed(chunk(second)[2:], 30, 40, 40)
    assert [(read.lo_ns, read.hi_ns, read.last_lo_ns) for read in reply.reads] == [(10, 20, 10), (30, 40, 40)]
    reply.close()


def test_a_body_without_length_ends_with_its_connection() -> None:
    """A response that is framed by the close alone is complete then; a framed one is not."""
    reply = Reply()
    reply.feed(b"HTTP/1.1 200 OK\r\n\r\nhello", 1, 2, 2)
    assert not reply.done
    assert reply.end_of_connection()
    reply.close()
    framed = Reply()
    assert not framed.end_of_connection()
    framed.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", 1, 2, 2)
    assert not framed.end_of_connection()
    framed.close()


def test_bytes_behind_the_end_are_refused() -> None:
    """Nothing that follows a response is part of it."""
    reply = Reply()
    reply.feed(stream([]), 1, 2, 2)
    with pytest.raises(BadReply, match="after the end"):
        reply.feed(b"HTTP/1.1 200 OK\r\n", 1, 2, 2)
    reply.close()


def test_a_body_without_end_is_given_up() -> None:
    """A server cannot fill our memory."""
    reply = Reply()
    part = b"x" * (BODY_LIMIT_BYTES // 4)
    reply.feed(b"HTTP/1.1 200 OK\r\n\r\n", 1, 2, 2)
    for _ in range(4):
        reply.feed(part, 1, 2, 2)
    with pytest.raises(BadReply, match="larger"):
        reply.feed(part, 1, 2, 2)
    reply.close()
