"""The journal on a disk that is full, cannot be written or cannot sync: refusals, healing, and nothing lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from reference_stack.schemas.configuration.api_gateway import JournalSettings
from reference_stack.services.infrastructure.api_gateway.journal.book import Book
from reference_stack.services.infrastructure.api_gateway.journal.journal import DiskJournal
from reference_stack.services.infrastructure.api_gateway.measures import Measures
from reference_stack.services.infrastructure.api_gateway.refusal import Refusal
from tests.reference_stack.infrastructure.conftest import (
    MakeGateway,
    Rows,
    chat,
    eventually,
)
from tests.reference_stack.infrastructure.journal_cases import accepted_call, ended, left, until
from tests.reference_stack.infrastructure.test_journal_disk import limited_files


def test_a_full_disk_refuses_and_heals(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be written down is refused with 503; ends that are owed are written when there is room again."""
    caplog.set_level("INFO")
    book = Book(tmp_path, JournalSettings(directory=tmp_path), most_open=8)
    with limited_files(10):
        assert not book.recover()
    assert book.full
    assert book.recover()
    first, second = accepted_call(), accepted_call("id-2")
    book.accept(first)
    book.accept(second)
    with limited_files(1):
        book.final(ended(first))
        book.final(ended(second))
        assert book.full
        with pytest.raises(Refusal) as refused:
            book.accept(accepted_call("id-3"))
        assert (refused.value.status, refused.value.retry_after_s) == (503, 1)
        assert not book.recover()

    assert book.recover()
    assert not book.full
    book.accept(accepted_call("id-3"))
    assert book.close() == 0
    book.leave()

    written = b"".join(path.read_bytes() for path in left(tmp_path))
    assert written.count(b'["final"') == 2
    assert sum("cannot be written down" in line for line in caplog.messages) == 1 + 1
    assert sum("written down again" in line for line in caplog.messages) == 1 + 1


def test_a_disk_that_is_full_of_the_journal_itself_heals(tmp_path: Path) -> None:
    """When all that fills the disk is stored it goes, what ended meanwhile included, and with it the 503."""
    rows = Rows(out=True)

    async def story() -> None:
        journal = DiskJournal(JournalSettings(directory=tmp_path), rows, Measures(()), most_open=8)
        journal.start()
        running = asyncio.ensure_future(journal.run())
        first, second = accepted_call(), accepted_call("id-2")
        journal.accept(first)
        journal.accept(second)
        with limited_files(1):
            journal.final(ended(first))
            assert journal.full
            rows.out = False
            await until(lambda: len(rows.rows) == 1)
            assert left(tmp_path) != []  # the other is open
            journal.final(ended(second))
            await until(lambda: left(tmp_path) == [])
            assert journal.full  # not even the first line of a segment finds room
        await until(lambda: not journal.full)
        journal.accept(third := accepted_call("id-3"))
        journal.final(ended(third))
        await until(lambda: len(rows.rows) == 3)
        running.cancel()
        await asyncio.wait([running])
        await journal.close()

    asyncio.run(story())
    assert [row.request_id for row in rows.rows] == ["id-1", "id-2", "id-3"]
    assert left(tmp_path) == []


def test_an_acceptance_that_finds_no_room_is_undone(tmp_path: Path) -> None:
    """The request is refused, its mark is free again, and the gateway is full until there is room."""
    book = Book(tmp_path, JournalSettings(directory=tmp_path), most_open=1)
    assert book.recover()
    with limited_files(1), pytest.raises(Refusal):
        book.accept(accepted_call())
    assert book.full
    assert book.recover()
    call = accepted_call("id-2")
    book.accept(call)
    assert book.full  # as many as it takes
    with pytest.raises(Refusal):
        book.accept(accepted_call("id-3"))
    book.final(ended(call))
    assert not book.full
    assert book.close() == 0
    book.leave()


def test_ends_that_were_never_written_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A disk that stays full to the end of the process costs the figures of what ended since, and the log says so."""

    async def story() -> None:
        journal = DiskJournal(JournalSettings(directory=tmp_path), Rows(), Measures(()), most_open=8)
        journal.start()
        call = accepted_call()
        journal.accept(call)
        with limited_files(1):
            journal.final(ended(call))
            await journal.close()

    asyncio.run(story())
    assert "1 requests ended that could not be written down" in caplog.text


def test_a_directory_that_cannot_be_written(make_gateway: MakeGateway, tmp_path: Path) -> None:
    """The gateway starts, refuses with Retry-After, says why, and serves by itself once it can write."""
    directory = tmp_path / "journal"
    directory.touch()  # root may write into any folder, and nobody into a file
    gateway = make_gateway(journal={"directory": str(directory)})

    reply = gateway.post(chat())

    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
    assert gateway.http.get("/health/ready").status_code == 503
    assert gateway.http.get("/health").json()["dependencies"]["journal"]
    directory.unlink()
    eventually(lambda: gateway.post(chat()).status_code == 200)
    assert gateway.usage.last().outcome == "complete"


def test_a_journal_of_its_size_refuses(make_gateway: MakeGateway, tmp_path: Path) -> None:
    """Rows that wait for the database take so much of the disk and no more; room is made when they are stored."""
    gateway = make_gateway(journal={"directory": str(tmp_path), "segment_bytes": 4096, "most_bytes": 8192})
    gateway.usage.out = True
    statuses = [gateway.post(chat()).status_code for _ in range(60)]
    assert statuses[0] == 200
    assert statuses[-1] == 503
    assert sum(path.stat().st_size for path in left(tmp_path)) < 8192 + 1024

    gateway.usage.out = False

    gateway.usage.last(statuses.count(200))
    eventually(lambda: gateway.post(chat()).status_code == 200)


def test_waiting_for_the_disk(make_gateway: MakeGateway, tmp_path: Path) -> None:
    """With wait_synced a request is served as ever, and does not wait for the age of a write."""
    gateway = make_gateway(journal={"directory": str(tmp_path), "wait_synced": True, "sync_s": 60})

    assert gateway.post(chat()).status_code == 200
    assert gateway.usage.last().outcome == "complete"


def test_a_disk_that_cannot_sync_refuses_who_waits(tmp_path: Path) -> None:
    """An acceptance that may be lost with the power is refused where the settings say so, and a new segment begun."""

    async def story() -> None:
        settings = JournalSettings(directory=tmp_path, wait_synced=True)
        journal = DiskJournal(settings, Rows(), Measures(()), most_open=8)
        journal.start()
        journal._book._syncer._also = fail
        call = accepted_call()
        journal.accept(call)
        with pytest.raises(Refusal):
            await journal.synced()
        assert journal.full
        journal._book._syncer._also = lambda: None
        assert journal._book.recover()
        journal.final(ended(call))
        await journal.close()

    def fail() -> None:
        raise OSError(5, "broken")

    asyncio.run(story())
