"""Tells events apart from those that differ from an earlier one in their text alone, without parsing them."""

from __future__ import annotations

import re
from functools import lru_cache

from reference_stack.services.infrastructure.api_gateway.events import Kind, Tally

_KEY = re.compile(rb'"(?:content|text|reasoning|reasoning_content)": ?"')
# The inside of a JSON string, without the escapes of single code units, which must be well paired.
_TEXT = re.compile(rb'[^"\\\x00-\x1f]*(?:\\["\\/bfnrt][^"\\\x00-\x1f]*)*')
# What events of one server have of their own stream at most, at their beginning: fields that say nothing to a Tally.
_OWN = re.compile(
    rb'data: \{"id": ?"[A-Za-z0-9_-]{1,128}", ?(?:"object": ?"[a-z._]{1,64}", ?)?"created": ?(?:0|[1-9][0-9]{0,11}),'
)
_ANYBODYS = b'data: {"id":"x","created":0,'
_MOST_SHAPES, _MOST_SHAPE_BYTES = 64, 1024
# A server whose events are never alike is not learned from for ever.
_MOST_LESSONS = 8
_TRIAL = b"."
# Bytes of which any number is the inside of a JSON string.
PLAIN = bytes(set(range(0x20, 0x7F)) - set(b'"\\'))
# Until there is an example no event is long enough to be like it.
_NO_EXAMPLE = 1 << 62


class Likeness:
    """What the events of one stream have in common around their text.

    A model's server spells all of a stream's events alike but for the text, and JSON is free of context: once an event
    is parsed, another string in the place of its text makes an event that says the same but for the text.
    """

    __slots__ = ("_lessons", "before", "behind", "behind_bytes")

    def __init__(self) -> None:
        self.before = self.behind = b""
        self.behind_bytes = _NO_EXAMPLE
        self._lessons = 0

    def has(self, data: bytes, at: int, end: int) -> bool:
        """Return whether `data` has from `at` to `end` exactly one event, with text, that is like the example."""
        begins, ends = at + len(self.before), end - self.behind_bytes
        return (
            begins < ends
            and data.startswith(self.before, at)
            and data.endswith(self.behind, ends, end)
            and is_text(data, begins, ends)
        )

    def learn(self, event: bytes) -> None:
        """Take a whole event as the example, if it is one line, and brings text and nothing else of interest."""
        if self._lessons == _MOST_LESSONS:
            return
        self._lessons += 1
        key = _KEY.search(event)
        text = None if key is None else _TEXT.match(event, key.end())
        if text is None or not event.startswith(b"data: ") or event.find(b"\n") != len(event) - 2 or b"\r" in event:
            return
        before, behind = event[: text.start()], event[text.end() :]
        if behind.startswith(b'"') and _says_text(before, behind):
            self.before, self.behind, self.behind_bytes = before, behind, len(behind)


def is_text(data: bytes, begins: int, ends: int) -> bool:
    """Return whether `data` has from `begins` to `ends` the inside of a JSON string."""
    return _TEXT.fullmatch(data, begins, ends) is not None and (data.isascii() or _is_utf8(data[begins:ends]))


def _says_text(before: bytes, behind: bytes) -> bool:
    """Return what `_is_of_text` does, which is asked once for all streams of a server that spells them alike."""
    own = _OWN.match(before)
    shape = before if own is None else _ANYBODYS + before[own.end() :]
    known = len(shape) + len(behind) <= _MOST_SHAPE_BYTES
    return _shape_says_text(shape, behind) if known else _is_of_text(shape, behind)


def _is_of_text(before: bytes, behind: bytes) -> bool:
    """Return whether an event counts as text because of what is between the two, and not without it."""
    with_text, without = Tally(), Tally()
    kinds = with_text.read(before + _TRIAL + behind), without.read(before + behind)
    said = (with_text.texts, without.texts, with_text.finished)
    return kinds == (Kind.CONTENT, Kind.CONTENT) and said == (1, 0, 0) and with_text.usage is None


_shape_says_text = lru_cache(_MOST_SHAPES)(_is_of_text)


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
