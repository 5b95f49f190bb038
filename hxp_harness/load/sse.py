"""Server-sent events: the bytes of a body split into events, each with the place where it ends. Pure.

After the HTML standard, "Server-sent events": lines end in CR, LF or CRLF and nowhere else, a line that begins with a
colon is a comment, several data lines are joined by LF, and a blank line ends the event.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\r|\n")


class Event(NamedTuple):
    """One event: `end` is the offset in the body just behind the line end that completed it."""

    data: bytes
    end: int
    name: bytes = b""


def split_events(body: bytes) -> Iterator[Event]:
    """Yield the complete events of `body` that carry data; what follows the last blank line is no event yet."""
    if b"\r" in body:
        yield from _split_lines(body)
    else:
        yield from _split_blocks(body)


def _split_blocks(body: bytes) -> Iterator[Event]:
    """Split a body that has only LF: the usual case, at a third of the cost."""
    end = len(_BOM) if body.startswith(_BOM) else 0
    *blocks, _ = body[end:].split(b"\n\n")
    for block in blocks:
        end += len(block) + 2
        if block.startswith(b"data: ") and b"\n" not in block:
            yield Event(block[6:], end)
        else:
            event = _event(block.split(b"\n"), end)
            if event is not None:
                yield event


def _split_lines(body: bytes) -> Iterator[Event]:
    start = len(_BOM) if body.startswith(_BOM) else 0
    lines: list[bytes] = []
    for match in _LINE_END.finditer(body, start):
        line = body[start : match.start()]
        start = match.end()
        if line:
            lines.append(line)
            continue
        event = _event(lines, match.end())
        lines = []
        if event is not None:
            yield event


def _event(lines: list[bytes], end: int) -> Event | None:
    """Return the event that these lines make, or None where there is no data among them."""
    pieces = []
    name = b""
    for line in lines:
        key, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if key == b"data":
            pieces.append(value)
        elif key == b"event":
            name = value
    return Event(b"\n".join(pieces), end, name) if pieces else None
