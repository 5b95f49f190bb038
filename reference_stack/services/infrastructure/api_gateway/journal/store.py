"""Where the rows of a journal go: the database, or the parked file beside the journal for those that it refuses."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from reference_stack.schemas.api.usage import UsageRepository, UsageRow
from reference_stack.services.infrastructure.api_gateway.journal.parked import park
from reference_stack.services.infrastructure.api_gateway.measures import Measures
from reference_stack.services.integration.database.port import RowsRefused

log = logging.getLogger(__name__)


class Store:
    """Takes batches until all of a batch is safe; says once that the database is out, and once that it is back."""

    def __init__(self, repository: UsageRepository, directory: Path, measures: Measures) -> None:
        self._repository = repository
        self._directory = directory
        self._measures = measures
        self._out = False

    async def add(self, rows: Sequence[UsageRow]) -> bool:
        """Store or park `rows`; False, and to be tried again, when the database or the disk cannot."""
        refused: Sequence[UsageRow] = ()
        try:
            await self._repository.add(rows)
        except RowsRefused as error:
            refused = error.rows
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the database, the rows stay in the journal
            self._note_out(type(error).__name__)
            return False
        try:
            if refused:
                park(self._directory, refused)
                log.error("%d usage rows were refused by the database; they are in %s", len(refused), self._directory)
        except OSError as error:
            self._note_out(f"parked file: {error.strerror}")
            return False
        self._measures.rows_refused.inc(len(refused))
        self._measures.rows_stored.inc(len(rows) - len(refused))
        self._note_back()
        return True

    def _note_out(self, why: str) -> None:
        if not self._out:
            self._out = True
            log.warning("usage rows cannot be stored (%s); they wait in the journal", why)

    def _note_back(self) -> None:
        if self._out:
            self._out = False
            log.info("usage rows are stored again")
