"""The writing half of the journal: what the path of a request touches."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from reference_stack.schemas.api.usage import UsageRow
from reference_stack.schemas.configuration.api_gateway import JournalSettings
from reference_stack.services.infrastructure.api_gateway.call import OK, Call
from reference_stack.services.infrastructure.api_gateway.journal.lane import Lane, claim
from reference_stack.services.infrastructure.api_gateway.journal.marks import Marks, halves
from reference_stack.services.infrastructure.api_gateway.journal.record import Accepted, Final, line_of
from reference_stack.services.infrastructure.api_gateway.journal.segment import SegmentWriter
from reference_stack.services.infrastructure.api_gateway.journal.sync import Syncer
from reference_stack.services.infrastructure.api_gateway.ports import Mark
from reference_stack.services.infrastructure.api_gateway.refusal import Refusal, overloaded

log = logging.getLogger(__name__)

_NOT_OPEN = "it is not open"


class Book:
    """Writes into a lane of `directory`, for at most `most_open` requests at once.

    `problem` says why nothing can be written, and is empty while it can; `recover` opens what is not open and tries
    again. Requests that were accepted and end while the disk refuses wait in memory; their acceptance is on the disk.
    """

    def __init__(self, directory: Path, settings: JournalSettings, *, most_open: int, owner: str = "") -> None:
        self._directory = directory
        self._owner = owner
        self._settings = settings
        self._most_open = most_open
        self._most_bytes = settings.most_bytes
        self._held: dict[str, int] = {}  # marks of open requests
        self._owed: deque[tuple[Final, int]] = deque()
        self._lane: Lane | None = None
        self._said = False
        self.problem = _NOT_OPEN
        self.bytes = 0
        self.ended = 0  # requests whose end was written

    @property
    def folder(self) -> Path | None:
        """The lane that is written into, None before there is one."""
        return None if self._lane is None else self._lane.path

    @property
    def full(self) -> bool:
        return self.problem != "" or self.bytes >= self._most_bytes or not self._marks.free

    def accept(self, call: Call) -> None:
        """Write that `call` was accepted; it is in the kernel's hands at the return. Raises Refusal 503."""
        if self.full:
            raise _refusal()
        key = call.key
        assert key is not None  # noqa: S101 - what has no key is not accepted
        mark = self._marks.take()
        place, serial = halves(mark)
        line = line_of(
            Accepted(
                call.id,
                call.client_id,
                key.id,
                key.tenant,
                call.model,
                call.route,
                call.stream,
                call.accepted_at_s,
                place,
                serial,
            )
        )
        try:
            self._writer.append(line)
        except OSError as error:
            self._marks.give_back(mark)
            self._fail(error)
            raise _refusal() from None
        self.bytes += len(line)
        self._held[call.id] = mark

    def progress(self, call: Call) -> None:
        """Note how much the client may have from now on, before it is sent."""
        self._marks.put(self._held[call.id], call.output_tokens)

    def marker(self, call: Call) -> Mark:
        """Return where it is noted how many tokens the client may have, before they are sent."""
        return self._marks.of(self._held[call.id])

    def final(self, call: Call) -> None:
        """Write how `call` ended, now or as soon as the disk takes it."""
        mark = self._held.pop(call.id)
        final = _final(call)
        if self._owed:
            self._owed.append((final, mark))
            return
        try:
            self._write(final, mark)
        except OSError as error:
            self._owed.append((final, mark))
            self._fail(error)

    async def synced(self) -> None:
        """Return when what was written is on the disk. Raises Refusal 503 when it cannot be."""
        try:
            await self._syncer.synced()
        except OSError:
            raise _refusal() from None

    def recover(self) -> bool:
        """Open what is not open, and write what is owed; return whether all is well."""
        if not self.problem:
            return True
        try:
            if self._lane is None:
                self._open()
            else:
                self._writer.rotate()
            while self._owed:
                self._write(*self._owed[0])
                self._owed.popleft()
        except OSError as error:
            self._fail(error)
            return False
        if self._said:
            log.info("usage is written down again")
        self.problem, self._said = "", False
        return True

    @property
    def owed(self) -> list[UsageRow]:
        """The rows of requests that ended while the disk refused."""
        return [final.row() for final, _ in self._owed]

    def settled(self, rows: Sequence[UsageRow]) -> None:
        """Hear that `rows`, which were owed, were stored without the disk."""
        stored = {row.request_id for row in rows}
        while self._owed and self._owed[0][0].request_id in stored:  # the first may have been written meanwhile
            self._marks.give_back(self._owed.popleft()[1])

    def removed(self, size_bytes: int) -> None:
        """Hear that a segment was removed."""
        self.bytes = max(0, self.bytes - size_bytes)

    def close(self) -> int:
        """Put all on the disk; return how many ends of requests could not be written. The lane stays this process's."""
        if self._lane is None:
            return 0
        if self._owed:
            self.recover()
        self.problem = _NOT_OPEN
        self._writer.close()
        self._syncer.close()
        self._marks.close()
        return len(self._owed)

    def leave(self) -> None:
        """Let go of the lane."""
        if self._lane is not None:
            self._lane.close()
            self._lane = None

    def _open(self) -> None:
        lane = claim(self._directory, self._owner)
        try:
            marks = Marks(lane.path, self._most_open)
        except OSError:
            lane.close()
            raise
        syncer = Syncer(self._settings.sync_s, also=marks.sync, failed=self._sync_failed)
        try:
            self._writer = SegmentWriter(lane.path, syncer, segment_bytes=self._settings.segment_bytes)
        except OSError:
            syncer.close()
            marks.close()
            lane.close()
            raise
        self._lane, self._marks, self._syncer = lane, marks, syncer

    def _write(self, final: Final, mark: int) -> None:
        line = line_of(final)
        self._writer.append(line)
        self.bytes += len(line)
        self.ended += 1
        self._marks.give_back(mark)

    def _sync_failed(self, error: OSError) -> None:
        # In the thread of the syncer: one assignment, and `recover` begins a new segment.
        self._fail(error)

    def _fail(self, error: OSError) -> None:
        self.problem = error.strerror or str(error)
        if not self._said:
            self._said = True
            log.error("usage cannot be written down in %s (%s); requests are refused", self._directory, self.problem)


def _final(call: Call) -> Final:
    """Return what `call.row()` says, without the row: making one costs as much as all of the rest."""
    key, usage, outcome = call.key, call.usage, call.outcome
    assert key is not None  # noqa: S101 - what was accepted has one
    assert outcome is not None  # noqa: S101 - what has ended has one
    return Final(
        call.id,
        call.client_id,
        key.id,
        key.tenant,
        call.model,
        call.route,
        outcome,
        call.status or OK,
        call.stream,
        None if usage is None else usage.prompt_tokens,
        call.output_tokens,
        usage is not None,
        call.accepted_at_s,
        time.perf_counter() - call.began_s,
        call.cached,
    )


def _refusal() -> Refusal:
    return overloaded("usage cannot be written down at the moment")
