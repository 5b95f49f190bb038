"""Hands usage rows to the database behind the requests' backs, and holds them while it is out."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict

import msgspec

from reference_stack.schemas.api.usage import UsageRepository, UsageRow
from reference_stack.services.infrastructure.api_gateway.call import Call
from reference_stack.services.infrastructure.api_gateway.measures import Measures
from reference_stack.services.infrastructure.api_gateway.ports import Mark
from reference_stack.services.integration.database.port import RowsRefused

log = logging.getLogger(__name__)

_BATCH_ROWS = 500
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0
_LAST_TRY_S = 3.0


class UsageLog:
    """Rows wait in memory for a background writer; without a repository they end in the log and metrics alone.

    At `most_held` rows it is `full`, and the gateway refuses requests sooner than lose their rows. Rows that the
    repository refuses for good are written to the log and given up, so that they hold nothing back.
    """

    def __init__(self, repository: UsageRepository | None, measures: Measures, *, most_held: int) -> None:
        self._repository = repository
        self._measures = measures
        self._most_held = most_held
        self._rows: deque[UsageRow] = deque()
        self._arrived = asyncio.Event()
        self._out = False

    @property
    def full(self) -> bool:
        return len(self._rows) >= self._most_held

    waits = False
    problem = ""

    def start(self) -> None:
        """Say what this is, once."""
        if self._repository is not None:
            log.warning("usage rows wait in memory, and die with the process; journal.directory keeps them on disk")

    async def synced(self) -> None:
        """Nothing is written, so nothing is waited for."""

    def accept(self, call: Call) -> None:
        """Nothing is written before the end here: a row that is lost with the process is lost."""

    def progress(self, call: Call) -> None:
        """Nothing is written before the end here."""

    def marker(self, call: Call) -> Mark:
        """Nothing is kept before the end here."""
        del call
        return Mark([0], 0, 0)

    def final(self, call: Call) -> None:
        """Queue the row of an accepted request that ended; never waits."""
        row = None if self._repository is None else call.row()
        if row is not None:
            self.put(row)

    def put(self, row: UsageRow) -> None:
        """Queue one row; never waits."""
        if self._repository is None:
            return
        self._rows.append(row)
        self._measures.rows_held.set(len(self._rows))
        self._arrived.set()

    async def run(self) -> None:
        """Write rows until cancelled."""
        if self._repository is None:
            return
        pause_s = _FIRST_PAUSE_S
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._rows:
                if await self._write(self._repository):
                    pause_s = _FIRST_PAUSE_S
                else:
                    await asyncio.sleep(pause_s)
                    pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def close(self) -> None:
        """Try for a few seconds to write what is left, and say how much was not."""
        try:
            async with asyncio.timeout(_LAST_TRY_S):
                while self._rows and self._repository is not None and await self._write(self._repository):
                    pass
        except TimeoutError:
            pass
        if self._rows:
            log.error("usage rows lost at shutdown: %d; each follows", len(self._rows))
            for row in self._rows:
                _log_row(row)

    async def _write(self, repository: UsageRepository) -> bool:
        """Write one batch; return whether the repository is there."""
        batch = list(itertools.islice(self._rows, _BATCH_ROWS))
        refused: Sequence[UsageRow] = ()
        try:
            await repository.add(batch)
        except RowsRefused as error:
            refused = error.rows
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the store, the rows stay
            self._note_out(error)
            return False
        self._take(len(batch), refused)
        self._note_back()
        return True

    def _take(self, count: int, refused: Sequence[UsageRow]) -> None:
        for _ in range(count):
            self._rows.popleft()
        for row in refused:
            log.error("a usage row was refused by the database; it follows")
            _log_row(row)
        self._measures.rows_refused.inc(len(refused))
        self._measures.rows_stored.inc(count - len(refused))
        self._measures.rows_held.set(len(self._rows))

    def _note_out(self, error: Exception) -> None:
        if not self._out:
            self._out = True
            log.warning("usage rows cannot be stored (%s); up to %d are held", type(error).__name__, self._most_held)

    def _note_back(self) -> None:
        if self._out:
            self._out = False
            log.info("usage rows are stored again; %d are held", len(self._rows))


def _log_row(row: UsageRow) -> None:
    log.error("%s", msgspec.json.encode(asdict(row)).decode())
