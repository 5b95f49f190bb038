"""HTTP responses are read the same wherever their bytes were cut, and however many reads were parsed together."""

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hxp_harness.load.reads import Raw, reads_of
from hxp_harness.load.reply import LIMIT_BYTES, BadReply, Reply, where
from tests.hxp_harness.load.conftest import LAST_CHUNK, STREAM_HEAD, chunk, events, stream

BODY = b"".join(events(2))
# Every way to frame the same body: sizes alone, an extension, leading zeros, trailers.
FRAMED = (
    stream(events(2)),
    STREAM_HEAD + b"".join(b"%x;a=b\r\n%b\r\n" % (len(part), part) for part in events(2)) + LAST_CHUNK,
    STREAM_HEAD + b"".join(b"0%X\r\n%b\r\n" % (len(part), part) for part in events(2)) + LAST_CHUNK,
    STREAM_HEAD + b"".join(map(chunk, events(2))) + b"0\r\nX-Trailer: 1\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" + stream(events(2)),
    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY),
)


def raws_of(pieces: Sequence[bytes]) -> list[Raw]:
    """Return reads without stamps, the first at 100, the next at 200, each 10 after the socket was empty."""
    return [(piece, [], at - 5, at, at - 10, 0, 0) for at, piece in enumerate(pieces, start=1) for at in [at * 100]]


@settings(deadline=None)  # a busy machine is no failure
@example(FRAMED[2], {1, 2, 85, 213}, {0, 1, 2})  # what a half chunk lacks is what a leading zero adds
@given(st.sampled_from(FRAMED), st.sets(st.integers(1, 600), max_size=12), st.sets(st.integers(0, 12)))
def test_a_response_may_be_cut_anywhere(text: bytes, cuts: set[int], kept: set[int]) -> None:
    """Reads fed each by itself or some together: the same body, and the same place in it for each of them."""
    bounds = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    pieces = [text[low:high] for low, high in itertools.pairwise(bounds)]
    reply, waiting = Reply(), b""
    for number, piece in enumerate(pieces):
        waiting += piece
        if number not in kept or number == len(pieces) - 1:
            reply.feed(waiting)
            waiting = b""
    assert reply.done
    assert reply.keep_alive
    assert b"".join(reply.parts) == BODY
    raws = raws_of(pieces)
    found, alone = where(raws, reply.bounds), where(raws, None)
    assert [end for end, _ in found] == [end for end, _ in alone]
    assert all(whole for (_, sure), (_, whole) in zip(found, alone, strict=True) for whole in [whole or not sure])
    reads, lag_ns = reads_of(raws, found, 0)
    ends = [read.end for read in reads]
    assert (ends, ends[-1], lag_ns) == (sorted(set(ends)), len(BODY), 0)
    reply.close()


def test_plain_chunks_are_placed_without_parsing_again() -> None:
    """The sizes of the chunks alone tell where each read ends."""
    reply = Reply()
    reply.feed(FRAMED[0])
    assert reply.bounds is not None
    assert list(reply.bounds.items())[0] == (len(STREAM_HEAD), 0)  # noqa: RUF015 - the order is what is looked at
    assert list(reply.bounds.items())[-1] == (len(FRAMED[0]), len(BODY))
    for text in FRAMED[1:]:
        reply.clear()
        reply.feed(text)
        assert reply.bounds is None
    reply.close()


def test_a_read_that_ends_within_the_next_chunk_has_no_stamp_of_its_own() -> None:
    """The stamp belongs to the last byte, which may have come after the event."""
    first, second = events(1)[:2]
    pieces = [STREAM_HEAD + chunk(first) + chunk(second)[:2], chunk(second)[2:]]
    stamp = [(1, 35, (0).to_bytes(8, "little") + at.to_bytes(8, "little")) for at in (20, 40)]
    raws: list[Raw] = [
        (pieces[0], [stamp[0]], 15, 25, 10, 0, 0),
        (pieces[1], [stamp[1]], 35, 47, 30, 0, 0),
    ]
    reply = Reply()
    for piece in pieces:
        reply.feed(piece)
    for bounds in (reply.bounds, None):
        reads, lag_ns = reads_of(raws, where(raws, bounds), 0)
        assert [(read.lo_ns, read.hi_ns, read.last_lo_ns) for read in reads] == [(10, 20, 10), (30, 40, 40)]
        assert lag_ns == 7
    reply.close()


def test_a_body_without_length_ends_with_its_connection() -> None:
    """A response that is framed by the close alone is complete then; a framed one is not."""
    reply = Reply()
    reply.feed(b"HTTP/1.1 200 OK\r\n\r\nhello")
    assert not reply.done
    assert reply.end_of_connection()
    reply.close()
    framed = Reply()
    assert not framed.end_of_connection()
    framed.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello")
    assert not framed.end_of_connection()
    framed.close()


def test_bytes_behind_the_end_are_refused() -> None:
    """Nothing that follows a response is part of it."""
    reply = Reply()
    reply.feed(stream([]))
    with pytest.raises(BadReply, match="after the end"):
        reply.feed(b"HTTP/1.1 200 OK\r\n")
    reply.close()


def test_what_came_before_bytes_that_are_no_http_keeps_its_place() -> None:
    """The chunks before the failure are part of the body, and of the read that brought them."""
    first = events(1)[0]
    text = STREAM_HEAD + chunk(first) + b"zz\r\n"
    reply = Reply()
    with pytest.raises(BadReply, match="not HTTP"):
        reply.feed(text)
    assert where(raws_of([text]), reply.bounds) == [(len(first), False)]
    reply.close()


def test_a_body_without_end_is_given_up() -> None:
    """A server cannot fill our memory."""
    reply = Reply()
    part = b"x" * (LIMIT_BYTES // 4)
    reply.feed(b"HTTP/1.1 200 OK\r\n\r\n")
    for _ in range(3):
        reply.feed(part)
    with pytest.raises(BadReply, match="larger"):
        reply.feed(part)
    reply.close()
