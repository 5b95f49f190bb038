"""What a gateway's process pays to ask PostgreSQL and Redis: `python -m benchmarks.gateway_stores [--rounds N]`.

CPU time of this process for each usage row that is shipped, each key that is looked up for the first
time, and each key whose limits are drawn on for the first time. Least of the rounds. No sockets of clients.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import uvloop

from benchmarks.gateway import ours
from benchmarks.gateway.backing import Backing, backing
from benchmarks.journal_cost import calls
from reference_stack.schemas.configuration.api_gateway import JournalSettings
from reference_stack.services.infrastructure.api_gateway.journal.book import Book
from reference_stack.services.infrastructure.api_gateway.journal.drain import Drain
from reference_stack.services.infrastructure.api_gateway.journal.store import Store
from reference_stack.services.infrastructure.api_gateway.keys.limits import LeasedLimits
from reference_stack.services.infrastructure.api_gateway.keys.ring import KeyRing
from reference_stack.services.infrastructure.api_gateway.measures import Measures
from reference_stack.services.integration.cache.client import connect
from reference_stack.services.integration.database.postgres import PostgresDatabase

_CACHE = Path(__file__).parents[1] / ".hxp" / "cache"
_ROWS, _KEYS, _AT_ONCE = 5000, 1000, 64
_KEYS_APART = 1_000_000


async def us_each(count: int, work: Callable[[], Awaitable[object]]) -> float:
    began_s = time.process_time()
    await work()
    return (time.process_time() - began_s) / count * 1e6


async def shipped(database: PostgresDatabase, folder: Path) -> float:
    """Return what a row costs on its way from the journal into the table."""
    book = Book(folder, JournalSettings(directory=folder), most_open=_ROWS)
    if not book.recover() or book.folder is None:
        raise SystemExit(f"the journal cannot be opened: {book.problem}")
    for call in calls(_ROWS):
        call.id = uuid.uuid4().hex
        book.accept(call)
        book.final(call)
    drain = Drain(book.folder, Store(database.usage, folder, Measures(())))

    async def ship() -> None:
        while await drain.step():
            pass

    try:
        return await us_each(_ROWS, ship)
    finally:
        drain.close()
        book.close()
        book.leave()


async def first_looks(database: PostgresDatabase, behind: Backing, number: int) -> tuple[float, float]:
    """Return what a key costs that was never seen: its look-up, and then the first shares of its four limits."""
    first = number * _KEYS_APART
    variant = replace(ours.FULL, keys=_KEYS)
    await asyncio.to_thread(behind.put_keys, ours.stored_keys(variant, first))
    cache = connect(behind.cache.model_copy(update={"command_s": 5.0}))
    ring, limits = KeyRing((), ours.PEPPER, database.keys), LeasedLimits(cache, database.spend)
    shown = [[b"Bearer " + key] for key in ours.secrets(first, _KEYS)]

    async def admit(header: list[bytes]) -> None:
        await ring.admit(header)

    async def take(header: list[bytes]) -> None:
        (await limits.take(await ring.admit(header), 100)).settle(50)

    looked_us = await us_each(_KEYS, lambda: _all(shown, admit))
    taken_us = await us_each(_KEYS, lambda: _all(shown, take))
    await limits.close()
    await cache.close()
    return looked_us, taken_us


async def _all(shown: list[list[bytes]], work: Callable[[list[bytes]], Awaitable[None]]) -> None:
    """Do `work` with each, as many clients at a time as a gateway may have."""
    rest: Iterator[list[bytes]] = iter(shown)

    async def client() -> None:
        for header in rest:
            await work(header)

    await asyncio.gather(*(asyncio.create_task(client()) for _ in range(_AT_ONCE)))


async def measure(behind: Backing, folder: Path, rounds: int) -> None:
    database = PostgresDatabase(behind.database)
    found: dict[str, list[float]] = {}
    for number in range(rounds):
        journal = folder / f"journal-{number}"
        found.setdefault("a usage row shipped", []).append(await shipped(database, journal))
        looked_us, taken_us = await first_looks(database, behind, number)
        found.setdefault("a key looked up", []).append(looked_us)
        found.setdefault("its four limits drawn on", []).append(taken_us)
    await database.close()
    for name, us in found.items():
        print(f"{name:28} {min(us):8.1f} us of this process")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "servers").mkdir()
        with backing(folder / "servers", _CACHE, frozenset()) as behind:
            uvloop.run(measure(behind, folder, rounds))


if __name__ == "__main__":
    main()
