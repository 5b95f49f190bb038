"""A journal that a test writes, runs and looks into."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from reference_stack.schemas.api.keys import ApiKey
from reference_stack.schemas.configuration.api_gateway import JournalSettings
from reference_stack.services.infrastructure.api_gateway.call import Call
from reference_stack.services.infrastructure.api_gateway.journal.journal import DiskJournal
from reference_stack.services.infrastructure.api_gateway.journal.lane import lanes, segments
from reference_stack.services.infrastructure.api_gateway.measures import Measures
from tests.reference_stack.infrastructure.conftest import (
    DEADLINE_S,
    Rows,
)


def left(directory: Path) -> list[Path]:
    """The segments that are still there."""
    return [path for lane in lanes(directory) for _, path in segments(lane)]


def accepted_call(name: str = "id-1") -> Call:
    call = Call(name, "", "/v1/completions")
    call.key, call.model, call.stream = ApiKey("alice", b"", frozenset({"*"}), "red"), "mixtral", True
    return call


def ended(call: Call) -> Call:
    call.outcome, call.status = "complete", 200
    return call


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not true():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


def one_call(directory: Path, rows: Rows) -> None:
    """Write one call into a journal that stops at once, and ships to `rows` as it does."""

    async def story() -> None:
        journal = DiskJournal(JournalSettings(directory=directory), rows, Measures(()), most_open=8)
        journal.start()
        call = accepted_call()
        journal.accept(call)
        journal.final(ended(call))
        await journal.close()

    asyncio.run(story())


def run_until(directory: Path, done: Callable[[Rows], bool], rows: Rows | None = None) -> Rows:
    """Run a journal on `directory` until `done`."""
    found = rows or Rows()

    async def story() -> None:
        journal = DiskJournal(JournalSettings(directory=directory), found, Measures(()), most_open=8)
        journal.start()
        running = asyncio.ensure_future(journal.run())
        await until(lambda: done(found))
        running.cancel()
        await asyncio.wait([running])
        await journal.close()

    asyncio.run(story())
    return found
