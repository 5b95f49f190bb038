"""Appends lines to a lane's segments; what was appended is in the kernel's hands, whatever becomes of the process."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from reference_stack.services.infrastructure.api_gateway.journal.lane import segment_path, segments
from reference_stack.services.infrastructure.api_gateway.journal.record import FORMAT, Opened, line_of
from reference_stack.services.infrastructure.api_gateway.journal.sync import Syncer
from reference_stack.services.infrastructure.durable import sync_folder


class SegmentWriter:
    """Writes the segments of the lane in `folder`, one at a time, a new one when `segment_bytes` are reached.

    A line is one write(2) of its own: it costs about 0.6 us, and gathering lines would delay what waits for them.
    """

    def __init__(self, folder: Path, syncer: Syncer, *, segment_bytes: int) -> None:
        """Begin the first segment. Raises OSError."""
        self._folder = folder
        self._syncer = syncer
        self._segment_bytes = segment_bytes
        self._descriptor = -1
        self._size = 0
        self._number = 0
        self.rotate()

    def append(self, line: bytes) -> None:
        """Write one line, all of it or nothing. Raises OSError when the disk does not take it."""
        if self._size >= self._segment_bytes:
            self.rotate()
        try:
            if os.write(self._descriptor, line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301 - a part was taken, as the disk filled
        except OSError:
            self._size = self._segment_bytes  # what comes next begins a segment: this one may end with a part of a line
            raise
        self._size += len(line)
        self._syncer.wrote()

    def rotate(self) -> None:
        """End the segment and begin the next. Raises OSError; nothing is appended then."""
        number = max((number for number, _ in segments(self._folder)), default=0)
        number = max(number, self._number) + 1  # never one that was there: who reads has passed it
        path = segment_path(self._folder, number)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        head = line_of(Opened(FORMAT))
        try:
            if os.write(descriptor, head) != len(head):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301 - a part was taken, as the disk filled
            sync_folder(self._folder)
        except OSError:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        self.close()
        self._descriptor, self._number, self._size = descriptor, number, len(head)
        self._syncer.follow(descriptor)

    def close(self) -> None:
        """End the segment; its descriptor is closed once it is on the disk."""
        if self._descriptor >= 0:
            self._syncer.retire(self._descriptor)
            self._descriptor = -1
