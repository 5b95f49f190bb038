"""How far each open request is, in memory that outlives the process: a mapped file of one 64-bit word a request.

A word is written before the tokens that it counts go to the client, which a record in the journal could not afford:
storing it costs under 0.1 us and no system call. The upper half is the request's serial number, so that what stands
there of an earlier request is not taken for this one's; the lower half is 0 until something was sent, then 1 + tokens.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import NamedTuple

from reference_stack.services.infrastructure.api_gateway.journal.lane import MARKS
from reference_stack.services.infrastructure.api_gateway.ports import Mark

_WORD_BYTES = 8
_HALF = 32
_LOW = (1 << _HALF) - 1


class Progress(NamedTuple):
    """What the client of an open request was told and sent at most."""

    started: bool
    tokens: int


class Marks:
    """The marks of the lane in `folder`, for `most` requests at once. Raises OSError when the disk has no room."""

    def __init__(self, folder: Path, most: int) -> None:
        self._descriptor = os.open(folder / MARKS, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            # Room is taken for good here: a mapped page without room on the disk would kill the process.
            os.posix_fallocate(self._descriptor, 0, most * _WORD_BYTES)
            self._map = mmap.mmap(self._descriptor, most * _WORD_BYTES)
        except OSError:
            os.close(self._descriptor)
            raise
        self._words = memoryview(self._map).cast("Q")
        self.free = list(range(most - 1, -1, -1))
        self._serial = 0

    def take(self) -> int:
        """Begin a request, for which there must be a free place; return its mark: serial number and place in halves."""
        self._serial = serial = self._serial % _LOW + 1
        place = self.free.pop()
        self._words[place] = serial << _HALF
        return serial << _HALF | place

    def put(self, mark: int, tokens: int) -> None:
        """Note that up to `tokens` are about to be sent, and that the client has been told a status."""
        place = mark & _LOW
        self._words[place] = mark - place + tokens + 1

    def of(self, mark: int) -> Mark:
        """Return where `put` puts its words for `mark`."""
        place = mark & _LOW
        return Mark(self._words, place, mark - place + 1)

    def give_back(self, mark: int) -> None:
        self.free.append(mark & _LOW)

    def sync(self) -> None:
        """Put the words on the disk, letting other threads run meanwhile, as mmap's own flush does not."""
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        self._words.release()
        self._map.close()
        os.close(self._descriptor)


def halves(mark: int) -> tuple[int, int]:
    """Return the place and the serial number of a mark."""
    return mark & _LOW, mark >> _HALF


class LeftMarks:
    """The marks that a dead process left in `folder`."""

    def __init__(self, folder: Path) -> None:
        try:
            data = (folder / MARKS).read_bytes()
        except FileNotFoundError:
            data = b""
        self._words = memoryview(data[: len(data) // _WORD_BYTES * _WORD_BYTES]).cast("Q")

    def of(self, place: int, serial: int) -> Progress:
        """Return how far the request was that had `place` under `serial`; nothing, where the word is another's."""
        word = self._words[place] if place < len(self._words) else 0
        low = word & _LOW if word >> _HALF == serial else 0
        return Progress(low > 0, max(0, low - 1))
