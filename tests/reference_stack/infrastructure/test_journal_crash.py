"""A crash at any point, and a database that comes and goes: every accepted request is one row, and the right one."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from reference_stack.schemas.api.keys import ApiKey
from reference_stack.schemas.api.usage import UsageRepository, UsageRow
from reference_stack.schemas.configuration.api_gateway import JournalSettings
from reference_stack.services.infrastructure.api_gateway.call import Call
from reference_stack.services.infrastructure.api_gateway.events import Usage
from reference_stack.services.infrastructure.api_gateway.journal.book import Book
from reference_stack.services.infrastructure.api_gateway.journal.drain import Drain, drain_left
from reference_stack.services.infrastructure.api_gateway.journal.lane import claim_left, segments
from reference_stack.services.infrastructure.api_gateway.journal.parked import parked
from reference_stack.services.infrastructure.api_gateway.journal.store import Store
from reference_stack.services.infrastructure.api_gateway.measures import Measures
from reference_stack.services.integration.database.port import RowsRefused

ALICE = ApiKey("alice", b"", frozenset({"*"}), "red")
SETTINGS = JournalSettings(segment_bytes=4096, sync_s=60)
# Disks are tested elsewhere; here thousands of journals are opened.
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
Mood = Literal["well", "out", "dies after it stored"]


@dataclass
class Table(UsageRepository):
    """Stores a row once by its id, as the real table does, and refuses those of the model `poison`."""

    rows: dict[str, UsageRow] = field(default_factory=dict)
    mood: Mood = "well"

    async def add(self, rows: Sequence[UsageRow]) -> None:
        if self.mood == "out":
            raise ConnectionError("out")
        for row in rows:
            if row.model != "poison":
                self.rows.setdefault(row.request_id, row)
        if self.mood == "dies after it stored":
            raise ConnectionError("nobody knows whether it was stored")
        refused = [row for row in rows if row.model == "poison"]
        if refused:
            raise RowsRefused(refused, "told to")


def call_of(number: int, model: str = "mixtral") -> Call:
    call = Call(f"{number:032}", "", "/v1/completions")
    call.key, call.model, call.stream = ALICE, model, True
    return call


class World:
    """A directory, the gateway that writes into it, and what ought to be in the table in the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.generation = 0
        self.table = Table()
        self.open: dict[str, Call] = {}
        self.expected: dict[str, tuple[str, int]] = {}
        self.poisoned: set[str] = set()
        self.count = 0
        self._begin()

    @property
    def directory(self) -> Path:
        return self.folder / str(self.generation)

    def _begin(self) -> None:
        self.store = Store(self.table, self.directory, Measures(()))
        self.book = Book(self.directory, SETTINGS, most_open=8)
        assert self.book.recover()
        assert self.book.folder is not None
        self.drain = Drain(self.book.folder, self.store, removed=self.book.removed)

    def accept(self, number: int) -> None:
        if self.book.full:
            return
        self.count += 1
        call = call_of(self.count, "poison" if number % 5 == 0 else "mixtral")
        self.book.accept(call)
        call.outcome = "failed"
        self.open[call.id] = call
        if call.model == "poison":
            self.poisoned.add(call.id)
        self.expected[call.id] = ("interrupted", 0)

    def progress(self, number: int) -> None:
        if self.open:
            call = self._one(number)
            call.texts += number % 7
            self.book.progress(call)
            self.expected[call.id] = ("interrupted", call.texts)

    def final(self, number: int) -> None:
        if self.open:
            call = self._one(number)
            del self.open[call.id]
            call.outcome, call.status = "complete", 200
            call.usage = Usage(7, call.texts + 1)
            self.book.final(call)
            self.expected[call.id] = ("complete", call.texts + 1)

    def _one(self, number: int) -> Call:
        return list(self.open.values())[number % len(self.open)]

    async def ship(self, number: int) -> None:
        moods: tuple[Mood, ...] = ("well", "out", "dies after it stored")
        self.table.mood = moods[number % 3]
        await self.drain.step()

    async def adopt(self, number: int) -> None:
        moods: tuple[Mood, ...] = ("well", "out", "dies after it stored")
        self.table.mood = moods[number % 3]
        for lane in claim_left(self.directory):
            await drain_left(lane, self.store)

    def kill(self) -> None:
        """What a dead process leaves is its files as they are."""
        self.generation += 1
        shutil.copytree(self.folder / str(self.generation - 1), self.directory)
        self._end()
        self.open.clear()
        self._begin()

    def _end(self) -> None:
        self.drain.close()
        self.book.close()
        self.book.leave()

    async def finish(self) -> None:
        self.kill()
        self.table.mood = "well"
        while list_left(self.directory):
            for lane in claim_left(self.directory):
                assert await drain_left(lane, self.store)
        self._end()


def list_left(directory: Path) -> list[Path]:
    """The lanes of dead processes that hold something."""
    return [lane.path for lane in claim_left(directory)]


STEPS = ["accept", "accept", "progress", "final", "final", "ship", "ship", "adopt", "kill"]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 60)), max_size=60))
def test_a_crash_at_any_point_loses_nothing_and_doubles_nothing(steps: list[tuple[str, int]]) -> None:
    """Each accepted request ends as one row: complete if its end was written, else interrupted with its last progress.

    Rows that the table refuses are parked, each once.
    """

    async def story(world: World) -> None:
        for step, number in steps:
            if step == "kill":
                world.kill()
                continue
            done = getattr(world, step)(number)
            if done is not None:
                await done
        await world.finish()

    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        world = World(Path(folder))
        asyncio.run(story(world))
        rows = {row.request_id: (row.outcome, row.output_tokens) for row in world.table.rows.values()}
        apart = [row.request_id for row in parked(world.directory)]
        assert rows == {name: found for name, found in world.expected.items() if name not in world.poisoned}
        assert sorted(apart) == sorted(world.poisoned)


def test_a_long_request_outlives_the_segments_behind_it() -> None:
    """A request that is open while others fill segments, are stored and removed is not lost by a crash then."""

    async def story(world: World) -> None:
        world.accept(1)
        for number in range(2, 60):
            world.accept(number)
            world.final(len(world.open) - 1)
        while await world.drain.step():
            pass
        assert world.book.folder is not None
        assert len(segments(world.book.folder)) > 2
        await world.finish()

    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        world = World(Path(folder))
        asyncio.run(story(world))

    row = world.table.rows[call_of(1).id]
    assert (row.outcome, row.output_tokens) == ("interrupted", 0)
    assert len(world.table.rows) + len(world.poisoned) == 59


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from(["accept", "final"]), min_size=1, max_size=30), st.floats(0, 1))
def test_what_a_loss_of_power_leaves_is_counted_right(steps: list[str], part: float) -> None:
    """With the end of the last segment gone the rows are those of what is left, and none is wrong."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        world = World(Path(folder))
        for number, step in enumerate(steps, 1):
            getattr(world, step)(number)
        assert world.book.folder is not None
        lane = world.directory / world.book.folder.name
        (_, last) = segments(lane)[-1]
        whole = last.read_bytes()
        cut = round(part * len(whole))
        world.kill()
        left = segments(world.directory / lane.name)[-1][1]
        left.write_bytes(whole[:cut])
        asyncio.run(world.finish())
        found = {**world.table.rows, **{row.request_id: row for row in parked(world.directory)}}

    for name, row in found.items():
        assert (row.outcome, row.output_tokens) in {world.expected[name], ("interrupted", 0)}
    gone = [name for name in world.expected if name not in found]
    assert gone == list(world.expected)[len(found) :]  # what is missing was accepted last
    if cut == len(whole):
        assert not gone
