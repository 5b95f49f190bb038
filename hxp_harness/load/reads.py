"""When the bytes of a response came, worked out of what was kept of each read once its request has ended. Pure.

The hot loop keeps a read as it was: its bytes, the kernel's control messages and the clocks. What follows from them is
worked out here for all reads of a request together, which costs less than doing so at each read.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate

from hxp_harness.load.answer import Read
from hxp_harness.load.stamps import ControlMessages, stamp_ns, stamps_ns

MORE = 1  # it filled the buffer, so that more may have waited behind it
INSIDE = 2  # its last byte is not the last of a TLS record
CRLF_BYTES = 2

# Bytes, control messages, times before and after the read, a time at which the socket was empty, what the wall clock
# was ahead of the monotonic one, and MORE and INSIDE. Times in nanoseconds on the monotonic clock. A plain tuple, since
# it is made for every read.
Raw = tuple[bytes, ControlMessages, int, int, int, int, int]


# Where a read ends: behind so many bytes of the body, and whether all of them are of whole HTTP chunks.
Place = tuple[int, bool]


def arrived_ns(raw: Raw) -> int:
    """Return when the last byte of a read had come: the kernel's stamp, or the time after the read."""
    wall_ns = stamp_ns(raw[1])
    return min(wall_ns - raw[5], raw[3]) if wall_ns else raw[3]


def places(raws: Sequence[Raw], bounds: Mapping[int, int]) -> list[Place]:
    """Return where each read ends in the body.

    `bounds` says for each end of an HTTP chunk how many bytes had been received by then, and how many of the body.
    """
    ends = list(accumulate(len(raw[0]) for raw in raws))
    try:
        return [(bounds[end], True) for end in ends]  # by far the usual case
    except KeyError:
        known = list(bounds)
        return [_place(end, bounds, known) for end in ends]


def _place(end: int, bounds: Mapping[int, int], known: Sequence[int]) -> Place:
    for tail in (0, CRLF_BYTES):  # the line end behind a chunk may be missing
        if end + tail in bounds:
            return bounds[end + tail], True
    behind = bisect_right(known, end)
    if not behind:
        return 0, False  # within the head
    begin = known[behind - 1]
    before = bounds[begin]
    if behind == len(known):
        return before, False  # within the last chunk's own lines
    size = bounds[known[behind]] - before
    head = known[behind] - begin - size - CRLF_BYTES
    return before + min(max(end - begin - head, 0), size), False


def reads_of(raws: Sequence[Raw], found: Sequence[Place], begun_ns: int) -> tuple[list[Read], int]:
    """Return the reads that brought bytes of the body, and the largest lag of any read in nanoseconds.

    `found` has the place of each; nothing came before `begun_ns`.
    """
    reads: list[Read] = []
    before, lag_ns, seen_ns, waits = 0, 0, begun_ns, 0
    stamps = stamps_ns([raw[1] for raw in raws])
    for (_, _, before_ns, after_ns, empty_ns, offset_ns, marks), (end, whole), wall_ns in zip(
        raws, found, stamps, strict=True
    ):
        lo_ns = seen_ns if waits or seen_ns > empty_ns else empty_ns
        waits = marks & MORE
        if not waits:
            seen_ns = before_ns
        hi_ns = wall_ns - offset_ns
        if not wall_ns or hi_ns > after_ns:
            hi_ns = after_ns
        elif after_ns - hi_ns > lag_ns:
            lag_ns = after_ns - hi_ns
        if end > before:
            before = end
            if lo_ns > hi_ns:  # noqa: PLR1730 - min() would be a call for every read
                lo_ns = hi_ns
            # A read that ends within the next chunk or record: its stamp may be that of later bytes.
            reads.append(Read(end, lo_ns, hi_ns, hi_ns if whole and wall_ns and not marks else lo_ns))
    return reads, lag_ns
