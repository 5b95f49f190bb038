"""What the golden server itself knows of each request, on disk as JSON lines."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec


class TruthEvent(msgspec.Struct, array_like=True):
    """One event with tokens; seconds of time.monotonic().

    The bytes that complete it were handed to the kernel between `lo_s` and `hi_s`; they were due at `due_s`.
    `hi_s` is 0.0 if the connection went before the kernel took them.
    """

    due_s: float
    lo_s: float
    hi_s: float
    tokens: int


class Truth(msgspec.Struct):
    """One request as the server saw it; seconds of time.monotonic()."""

    request_id: str
    arrived_s: float  # the kernel had the last bytes of the request
    read_s: float  # this process had them
    start_s: float  # the timing counts from here: the arrival, or when a slot became free
    stream: bool
    prompt_tokens: int
    asked_tokens: int
    events: list[TruthEvent] = []
    ended: str = ""  # complete | error | abort | reset | status | cancelled (the client went)
    end_s: float = 0.0


class TruthLog:
    """Appends a line as each request ends, one write a line."""

    def __init__(self, file: Path) -> None:
        self._fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._encode = msgspec.json.Encoder().encode

    def write(self, truth: Truth) -> None:
        """Append `truth`."""
        os.write(self._fd, self._encode(truth) + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def read_truths(file: Path) -> list[Truth]:
    """Return every complete line of `file` in the order in which the requests ended."""
    decode = msgspec.json.Decoder(Truth).decode
    return [decode(line) for line in file.read_bytes().split(b"\n")[:-1]]
