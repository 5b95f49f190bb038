"""The journal's reader lets requests be served in between, and may be stopped there."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from reference_stack.schemas.configuration.api_gateway import JournalSettings
from reference_stack.services.infrastructure.api_gateway.journal.book import Book
from reference_stack.services.infrastructure.api_gateway.journal.drain import Drain
from reference_stack.services.infrastructure.api_gateway.journal.store import Store
from reference_stack.services.infrastructure.api_gateway.measures import Measures
from tests.reference_stack.infrastructure.conftest import Rows
from tests.reference_stack.infrastructure.journal_cases import accepted_call, ended, left

NAMES = [f"id-{number}" for number in range(600)]
# Of a lane of some 160 KiB.
TURNS = 4


def drain_of(directory: Path, rows: Rows) -> Drain:
    """Return the reader of a lane with a request for each of NAMES, all ended."""
    book = Book(directory, JournalSettings(directory=directory), most_open=8)
    assert book.recover()
    folder = book.folder
    assert folder is not None
    for name in NAMES:
        call = accepted_call(name)
        book.accept(call)
        book.final(ended(call))
    book.close()
    book.leave()
    return Drain(folder, Store(rows, directory, Measures(())))


def test_requests_are_served_between_two_slices(tmp_path: Path) -> None:
    """However much there is to read, others have their turn several times before it is one batch for the database."""
    rows = Rows()

    async def story() -> int:
        drain, turns = drain_of(tmp_path, rows), 0
        stepping = asyncio.ensure_future(drain.step())
        while not stepping.done():
            turns += 1
            await asyncio.sleep(0)
        assert await stepping
        drain.close()
        return turns

    assert asyncio.run(story()) >= TURNS
    assert [row.request_id for row in rows.rows] == NAMES


@pytest.mark.parametrize("turns", range(TURNS))
def test_a_reader_that_is_stopped_between_two_slices_loses_nothing(tmp_path: Path, turns: int) -> None:
    """Stopped in any turn and gone on with, it stores each row once, in order, and removes the lane."""
    rows = Rows()

    async def story() -> None:
        drain = drain_of(tmp_path, rows)
        stepping = asyncio.ensure_future(drain.step())
        for _ in range(turns):
            await asyncio.sleep(0)
        stepping.cancel()
        await asyncio.wait([stepping])
        assert stepping.cancelled()
        assert await drain.finish()

    asyncio.run(story())
    assert [row.request_id for row in rows.rows] == NAMES
    assert left(tmp_path) == []
