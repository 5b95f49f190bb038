"""Traces as JSON lines: one a line, whole lines only."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

import msgspec

from hxp_harness.trace import Trace

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Trace)


def encode(trace: Trace) -> bytes:
    """Return `trace` as one line, newline included."""
    return _encoder.encode(trace) + b"\n"


def decode(line: bytes) -> Trace:
    """Return the trace of one line; raise msgspec.DecodeError when it is none."""
    return _decoder.decode(line)


class TraceWriter:
    """Appends traces to a file. What was flushed is with the kernel, and outlives this process."""

    def __init__(self, file: Path) -> None:
        """Raises OSError when the file cannot be opened."""
        self._stream = file.open("ab", buffering=0)
        self._lines: list[bytes] = []

    def add(self, trace: Trace) -> None:
        self._lines.append(encode(trace))

    def flush(self) -> None:
        """Write what was added, as whole lines. Raises OSError when there is no room."""
        text = memoryview(b"".join(self._lines))
        self._lines.clear()
        while text:
            text = text[self._stream.write(text) :]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()


class Tail:
    """Reads a file of traces while another process appends to it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._offset = 0

    def read(self) -> list[Trace]:
        """Return the traces whose lines were completed since the last call; an absent file has none."""
        try:
            with self._file.open("rb") as stream:
                stream.seek(self._offset)
                text = stream.read()
        except FileNotFoundError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [decode(line) for line in whole.splitlines()]


def by_end(traces: Iterable[Trace], slack_s: float) -> Iterator[Trace]:
    """Yield `traces` in the order of their ends, which several clients wrote up to `slack_s` out of it.

    Only the traces of so long a time are held. One that comes later still is not lost, only out of order.
    """
    held: list[tuple[float, int, Trace]] = []
    newest_s = -math.inf
    for number, trace in enumerate(traces):
        end_s = trace.intended_s if trace.end_s is None else trace.end_s
        newest_s = max(newest_s, end_s)
        heapq.heappush(held, (end_s, number, trace))
        while held[0][0] < newest_s - slack_s:
            yield heapq.heappop(held)[2]
    while held:
        yield heapq.heappop(held)[2]


def read_traces(file: Path) -> Iterator[Trace]:
    """Yield every trace of `file`; a last line that was cut (the writer died) is left out."""
    with file.open("rb") as stream:
        for line in stream:
            if line.endswith(b"\n"):
                yield decode(line)
