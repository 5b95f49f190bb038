"""Reads a lane from its first record on, hands its rows to the store and removes what nothing is needed of."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from reference_stack.errors import StackError
from reference_stack.schemas.api.usage import UsageRow, WrittenRows
from reference_stack.services.infrastructure.api_gateway.journal.fold import Fold
from reference_stack.services.infrastructure.api_gateway.journal.lane import MARKS, Lane, segments
from reference_stack.services.infrastructure.api_gateway.journal.marks import LeftMarks
from reference_stack.services.infrastructure.api_gateway.journal.record import FORMAT, OPENED, Opened, record_of, skim
from reference_stack.services.infrastructure.api_gateway.journal.store import Store

log = logging.getLogger(__name__)

# About a hundred requests, and half a millisecond of the loop that serves requests, which has its turn behind each.
_SLICE_BYTES = 32 * 1024
# So many make one statement of the database.
_SLICES = 8


class StrangeFormat(StackError):
    """A segment was written by another version of the journal."""


class Drain:
    """Follows the lane in `folder`, its writer alive or dead; `removed` is told the bytes of each removed segment."""

    def __init__(self, folder: Path, store: Store, *, removed: Callable[[int], None] = lambda _bytes: None) -> None:
        self._folder = folder
        self._store = store
        self._removed = removed
        self._fold = Fold()
        self._rows: WrittenRows | None = None
        self._file: BinaryIO | None = None
        self._number = 0
        self._rest = b""
        self.done = 0  # rows that need the journal no more
        self.hurries = False  # the last read was as large as a read may be: more is waiting

    @property
    def behind(self) -> int:
        """How many rows were read and wait for the store."""
        return 0 if self._rows is None else len(self._rows)

    async def step(self) -> bool:
        """Bring the next rows to the store; return whether there may be more. Raises StrangeFormat and OSError."""
        read = not self._rows and await self._read()
        if not self._rows:
            self._remove_settled()
            return read
        if not await self._store.add(self._rows):
            return False
        self._fold.stored()
        self.done += len(self._rows)
        self._rows = None
        self._remove_settled()
        return True

    @property
    def caught_up(self) -> bool:
        """Whether all that the lane holds was read and is stored."""
        if self._rows or self._file is None:
            return False
        number, path = segments(self._folder)[-1]
        return number == self._number and self._file.tell() == path.stat().st_size

    def settled(self, rows: Sequence[UsageRow]) -> None:
        """Hear that `rows` were stored although their ends are not in the lane; their acceptance was read."""
        self._fold.settled(rows)

    def clear(self) -> bool:
        """Remove all segments, the one being written included, to make room; return whether nothing needs them.

        For a writer that finds no room; what it writes next it writes into a new segment.
        """
        if not self.caught_up or self._fold.open:
            return False
        for _, path in segments(self._folder):
            self._remove(path)
        return True

    async def finish(self) -> bool:
        """Store all that a dead writer left, open requests as interrupted, and clear the lane; False: not yet."""
        while await self.step():
            pass
        if self._rows:
            return False
        left = segments(self._folder)
        ended_at_s = max((path.stat().st_mtime for _, path in left), default=0.0)
        rows = self._fold.left(LeftMarks(self._folder).of, ended_at_s)
        if rows:
            if not await self._store.add(rows):
                return False
            log.warning("%d requests were cut off with their gateway; they are billed as interrupted", len(rows))
        self.close()
        for _, path in left:
            self._remove(path)
        with contextlib.suppress(FileNotFoundError):
            (self._folder / MARKS).unlink()
        return True

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    async def _read(self) -> bool:
        """Read on, a slice in each turn of the loop; return whether anything was there.

        Whoever stops it in between loses nothing: what was read stands in `_rows`.
        """
        sizes = [self._read_slice()]
        while len(sizes) < _SLICES and sizes[-1] == _SLICE_BYTES:
            await asyncio.sleep(0)
            sizes.append(self._read_slice())
        self.hurries = sizes[-1] == _SLICE_BYTES
        return sizes[0] > 0

    def _read_slice(self) -> int:
        """Read on; return how many bytes were there."""
        data = self._bytes()
        if not data:
            return 0
        whole = self._rest + data
        found = skim(whole)
        self._rest = whole[found.whole_bytes :]
        if found.damaged:
            log.error("%d lines of %s are damaged and left out", found.damaged, self._folder)
        _check(found.texts, self._folder)
        rows = self._fold.read(found.texts, self._number)
        self._rows = rows if self._rows is None else self._rows.and_then(rows)
        return len(data)

    def _bytes(self) -> bytes:
        while True:
            # Looked up first: what was written before the next segment began is read before that one.
            following = next((each for each in segments(self._folder) if each[0] > self._number), None)
            data = b"" if self._file is None else self._file.read(_SLICE_BYTES)
            if data or following is None:
                return data
            self.close()
            if self._rest:
                log.warning("the last line of a segment in %s was cut off; it was never a record", self._folder)
            self._number, self._rest = following[0], b""
            self._file = following[1].open("rb", buffering=0)

    def _remove_settled(self) -> None:
        """Remove segments, the oldest first, until one is needed or may be written to."""
        if self._rows:
            return
        for number, path in segments(self._folder):
            if number >= self._number or self._fold.needs(number):
                return
            self._remove(path)

    def _remove(self, path: Path) -> None:
        size = path.stat().st_size
        path.unlink()
        self._removed(size)


async def drain_left(lane: Lane, store: Store) -> bool:
    """Store what the dead writer of `lane` left; return whether all is done."""
    drain = Drain(lane.path, store)
    try:
        return await drain.finish()
    finally:
        drain.close()


def _check(texts: list[bytes], folder: Path) -> None:
    for text in texts:
        opened = record_of(text) if text.startswith(OPENED) else None
        if isinstance(opened, Opened) and opened.format != FORMAT:
            hint = "start the version that wrote it once, or move the lane away"
            raise StrangeFormat(f"{folder} was written in format {opened.format}, not {FORMAT}", hint=hint)
