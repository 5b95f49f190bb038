"""What a gateway that ended leaves in its journal: the next one, or a sibling, stores it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reference_stack.schemas.api.usage import UsageRow
from reference_stack.schemas.configuration.api_gateway import JournalSettings
from reference_stack.services.infrastructure.api_gateway.journal.book import Book
from reference_stack.services.infrastructure.api_gateway.journal.journal import DiskJournal
from reference_stack.services.infrastructure.api_gateway.journal.lane import claim, segment_path
from reference_stack.services.infrastructure.api_gateway.journal.record import Opened, line_of, scan
from reference_stack.services.infrastructure.api_gateway.measures import Measures
from tests.reference_stack.infrastructure.conftest import (
    Rows,
)
from tests.reference_stack.infrastructure.journal_cases import accepted_call, ended, left, one_call, run_until


@dataclass
class Slow(Rows):
    """Answers nobody before it is told to."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    answers: asyncio.Event = field(default_factory=asyncio.Event)

    async def add(self, rows: Sequence[UsageRow]) -> None:
        self.asked.set()
        await self.answers.wait()
        await super().add(rows)


def die(directory: Path) -> None:
    """Leave what a gateway does that was killed: one request that ended, and one whose client has four tokens."""
    book = Book(directory, JournalSettings(directory=directory), most_open=8)
    assert book.recover()
    done, cut = accepted_call(), accepted_call("id-2")
    book.accept(done)
    book.accept(cut)
    book.final(ended(done))
    cut.texts = 4
    book.progress(cut)
    book.close()
    book.leave()


def test_a_gateway_adopts_what_a_dead_one_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The rows of a lane whose process is gone are stored by the next that runs there, open ones as interrupted."""
    die(tmp_path)

    rows = run_until(tmp_path, lambda rows: len(rows.rows) == 2)

    assert [(row.request_id, row.outcome, row.output_tokens) for row in rows.rows] == [
        ("id-1", "complete", 0),
        ("id-2", "interrupted", 4),
    ]
    assert "1 requests were cut off with their gateway" in caplog.text
    assert left(tmp_path) == []


def test_what_the_dead_left_is_stored_before_the_last_one_stops(tmp_path: Path) -> None:
    """A gateway that is told to stop in the middle of an adoption completes it: nobody may start there again."""
    die(tmp_path)
    rows = Slow()

    async def story() -> None:
        journal = DiskJournal(JournalSettings(directory=tmp_path), rows, Measures(()), most_open=8)
        journal.start()
        running = asyncio.ensure_future(journal.run())
        await rows.asked.wait()
        running.cancel()
        await asyncio.wait([running])
        rows.answers.set()
        await journal.close()

    asyncio.run(story())
    assert [(row.request_id, row.outcome) for row in rows.rows] == [("id-1", "complete"), ("id-2", "interrupted")]
    assert left(tmp_path) == []


def test_a_lane_of_another_version_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be read for certain is not guessed: it stays, the log says so once, and other lanes are adopted."""
    with claim(tmp_path) as lane:
        segment_path(lane.path, 1).write_bytes(line_of(Opened(99)))
    die(tmp_path)

    rows = run_until(tmp_path, lambda rows: len(rows.rows) == 2)

    assert [row.request_id for row in rows.rows] == ["id-1", "id-2"]
    assert sum("format 99" in line for line in caplog.messages) == 1
    assert [scan(path.read_bytes()).records for path in left(tmp_path)] == [[Opened(99)]]


def test_a_damaged_line_is_told_and_costs_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A lane with damage, and with a last line that was cut off, gives every whole row."""
    book = Book(tmp_path, JournalSettings(directory=tmp_path), most_open=8)
    assert book.recover()
    for name in ("id-1", "id-2"):
        call = accepted_call(name)
        book.accept(call)
        book.final(ended(call))
    book.close()
    book.leave()
    (segment,) = left(tmp_path)
    with segment.open("ab") as file:
        file.write(b"deadbeef nonsense\n0000")
    segment_path(segment.parent, 2).write_bytes(line_of(Opened(1)))

    rows = run_until(tmp_path, lambda rows: len(rows.rows) == 2)

    assert [row.request_id for row in rows.rows] == ["id-1", "id-2"]
    assert "1 lines of" in caplog.text
    assert "was cut off" in caplog.text


def test_rows_left_at_the_end_are_stored_by_the_next(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A stop while the database is out loses nothing."""
    rows = Rows(out=True)
    one_call(tmp_path, rows)
    assert f"usage rows stay in {tmp_path}" in caplog.text
    rows.out = False
    run_until(tmp_path, lambda rows: len(rows.rows) == 1, rows)
    assert left(tmp_path) == []
