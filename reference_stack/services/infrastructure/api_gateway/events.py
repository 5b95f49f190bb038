"""Reads a stream of server-sent events in copy: cuts it between events, and says what each one means to a relay."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from enum import Enum, auto

import msgspec

# A CR at the very end may be half of a CRLF, so the cut waits for the byte behind it.
_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?=[^\n]))")
_WINDOW_BYTES = 3
_LINE = re.compile(rb"\r\n|\n|\r")


class Splitter:
    """Cuts a byte stream after each blank line, whatever pieces it arrives in; the bytes stay as they are."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._tail = b""
        self.held_bytes = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Return the events that `data` completes, each with the blank line that ends it."""
        window = self._tail + data
        if b"\n\n" not in window and (b"\r" not in window or not _BLANK_LINE.search(window)):
            self._hold(data, window[-_WINDOW_BYTES:])
            return []
        whole = self.take() + data
        if b"\r" not in whole:
            pieces = whole.split(b"\n\n")
            rest = pieces.pop()
            events = [piece + b"\n\n" for piece in pieces]
        else:
            cuts = [0, *(match.end() for match in _BLANK_LINE.finditer(whole))]
            events = [whole[start:end] for start, end in itertools.pairwise(cuts)]
            rest = whole[cuts[-1] :]
        if rest:
            self._hold(rest, rest[-_WINDOW_BYTES:])
        return events

    def _hold(self, data: bytes, tail: bytes) -> None:
        self._parts.append(data)
        self._tail = tail
        self.held_bytes += len(data)

    def take(self) -> bytes:
        """Return the bytes of an event that has not ended, and forget them."""
        rest = b"".join(self._parts)
        self._parts.clear()
        self._tail = b""
        self.held_bytes = 0
        return rest


class Kind(Enum):
    """What an event is to a relay."""

    CONTENT = auto()
    USAGE = auto()  # the summary behind the last choice: no choices, only usage
    DONE = auto()
    ERROR = auto()
    OTHER = auto()  # comments, unknown fields, keep-alive


class Usage(msgspec.Struct):
    """The token counts that a model reports."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None


class _Choice(msgspec.Struct, gc=False):
    index: int = 0
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: Usage | None = None
    error: msgspec.Raw | None = None


_decode = msgspec.json.Decoder(_Chunk).decode
# Python 3.11 takes 0.2 us to find a member by its class.
_CONTENT, _USAGE, _DONE, _ERROR, _OTHER = Kind


@dataclass(slots=True)
class Tally:
    """What a stream has said so far: events with text, choices that finished, its usage."""

    texts: int = 0
    finished: int = 0
    usage: Usage | None = None

    def read(self, event: bytes) -> Kind:
        """Count one event and return its kind. Data that is no JSON object of a completion is an error."""
        data = _data(event)
        if data is None:
            return _OTHER
        if data == b"[DONE]":
            return _DONE
        try:
            chunk = _decode(data)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return _ERROR
        if chunk.error is not None or (chunk.choices is None and chunk.usage is None):
            return _ERROR
        if chunk.usage is not None:
            self.usage = chunk.usage
        if not chunk.choices:
            return _USAGE
        for choice in chunk.choices:
            self.texts += _has_text(choice)
            self.finished += choice.finish_reason is not None
        return _CONTENT


def _has_text(choice: _Choice) -> bool:
    delta = choice.delta
    if delta is None:
        return bool(choice.text)
    return bool(delta.content or delta.reasoning or delta.reasoning_content)


def _data(event: bytes) -> bytes | None:
    if event.startswith(b"data: ") and event.count(b"\n") == 2 and b"\r" not in event:
        return event[6:-2]
    lines = [line for line in _LINE.split(event.removeprefix(b"\xef\xbb\xbf")) if line.partition(b":")[0] == b"data"]
    if not lines:
        return None
    return b"\n".join(line.partition(b":")[2].removeprefix(b" ") for line in lines)


class _Answer(msgspec.Struct):
    choices: list[msgspec.Raw] = []
    data: list[msgspec.Raw] = []  # of embeddings
    usage: Usage | None = None
    error: msgspec.Raw | None = None


_decode_answer = msgspec.json.Decoder(_Answer).decode


def read_answer(body: bytes, *, vectors: bool = False) -> Usage | None:
    """Return the usage of a whole answer, of `vectors` or of text.

    Raises ValueError when it is not one: an error, empty, or no JSON.
    """
    try:
        answer = _decode_answer(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError("not a completion") from error
    if answer.error is not None or not (answer.data if vectors else answer.choices):
        raise ValueError("nothing in it")
    return answer.usage
