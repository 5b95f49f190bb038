"""What the usage journal costs a request in CPU time: `python benchmarks/journal_cost.py [--requests N] [--rounds N]`.

Each round takes every part once, one after another in one process, so that the ratios are of the same machine at the
same moment: what stands on a request's path (acceptance and end, and the mark of one event), and what is done beside it
(reading its row back for a store that keeps nothing). The measure is two bare writes of the same bytes. Medians over
the rounds. All of it in a gateway, the database included: `benchmarks/gateway_peers.py --part features`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from reference_stack.schemas.api.keys import ApiKey
from reference_stack.schemas.api.usage import UsageRow
from reference_stack.schemas.configuration.api_gateway import JournalSettings
from reference_stack.services.infrastructure.api_gateway.call import Call
from reference_stack.services.infrastructure.api_gateway.events import Usage
from reference_stack.services.infrastructure.api_gateway.journal.book import Book
from reference_stack.services.infrastructure.api_gateway.journal.drain import Drain
from reference_stack.services.infrastructure.api_gateway.journal.store import Store
from reference_stack.services.infrastructure.api_gateway.measures import Measures

_ALICE = ApiKey("alice", b"", frozenset({"*"}), "red")
_BARE = "two bare writes of the same bytes"
_WRITES = "acceptance and end"


class Nowhere:
    """Keeps nothing."""

    async def add(self, rows: Sequence[UsageRow]) -> None:
        pass


def calls(count: int) -> list[Call]:
    made = []
    for number in range(count):
        call = Call(f"{number:032x}", "a-client-s-own-id", "/v1/chat/completions")
        call.key, call.model, call.stream, call.status = _ALICE, "mixtral", True, 200
        call.usage, call.outcome = Usage(64, 16), "complete"
        made.append(call)
    return made


def us_each(count: int, work: Callable[[], None]) -> float:
    began_s = time.process_time()
    work()
    return (time.process_time() - began_s) / count * 1e6


def one_round(count: int, folder: Path) -> dict[str, float]:
    book = Book(folder, JournalSettings(directory=folder), most_open=count)
    if not book.recover() or book.folder is None:
        raise SystemExit(f"the journal cannot be opened: {book.problem}")
    made = calls(count)
    took = {}

    def write() -> None:
        for call in made:
            book.accept(call)
            book.final(call)

    took[_WRITES] = us_each(count, write)
    line = b"x" * (book.bytes // (2 * count))
    descriptor = os.open(folder / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def bare() -> None:
        for _ in range(2 * count):
            os.write(descriptor, line)

    took[_BARE] = us_each(count, bare)
    os.close(descriptor)
    drain = Drain(book.folder, Store(Nowhere(), folder, Measures(())))

    async def ship() -> None:
        while await drain.step():
            pass

    took["reading it back, to a store that keeps nothing"] = us_each(count, lambda: asyncio.run(ship()))
    drain.close()
    book.accept(made[0])

    def progress() -> None:
        for _ in range(10 * count):
            book.progress(made[0])

    took["mark of an event"] = us_each(10 * count, progress)
    book.final(made[0])
    book.close()
    book.leave()
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=5000, help="in a round")
    parser.add_argument("--rounds", type=int, default=7)
    told = parser.parse_args()
    rounds = []
    for _ in range(told.rounds):
        with tempfile.TemporaryDirectory() as folder:
            rounds.append(one_round(told.requests, Path(folder)))
    print(f"{'':50} us/request   of two bare writes")
    for name in rounds[0]:
        us = statistics.median(each[name] for each in rounds)
        ratio = statistics.median(each[name] / each[_BARE] for each in rounds)
        print(f"{name:50} {us:10.2f}   {ratio:10.2f}")


if __name__ == "__main__":
    main()
