"""Kills gateway processes and PostgreSQL under load, then holds three ledgers of the requests against each other."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import asyncpg

from hxp_harness.faults.backend import Backend
from hxp_harness.faults.ledger import Billed, Breach, ClientRow, UsageRow, breaches
from tests.reference_stack.kill.load import Load
from tests.reference_stack.kill.processes import Gateway, Postgres, until

_BILLED = {"complete": Billed.COMPLETE, "cancelled": Billed.CANCELLED}
WORKERS = 3


@dataclass(frozen=True, slots=True)
class Size:
    """How much is asked and killed; `clients` ask at once."""

    requests: int
    kills: int
    crashes: int
    clients: int = 24


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the ledgers say."""

    client: list[ClientRow]
    unbilled: list[str]  # the model saw them, and the usage log does not
    rows: int
    outcomes: Mapping[str, int]
    statuses: Mapping[int, int]
    kills: int
    crashes: int
    found: list[Breach]
    stops_in_vain: int
    took_s: float

    def count(self, what: str) -> int:
        return sum(breach.what.startswith(what) for breach in self.found)


def run(size: Size, folder: Path, seed: int = 7) -> Outcome:
    """Run a campaign in `folder`. A kill ends one worker, or every third time the gateway with all its workers."""
    began_s = time.monotonic()
    with closing(Postgres(folder)) as postgres, Backend("paced", tick_s=0.02) as backend:
        dsn = postgres.settings.dsn
        gateway = Gateway(folder, backend.base_url, dsn, workers=WORKERS)
        load = Load(gateway.port, size.requests, size.clients)
        rows = asyncio.run(_story(size, load, gateway, postgres, random.Random(seed)))
        emitted = backend.ledger()
    usage = [
        UsageRow(row["client_request_id"], row["output_tokens"], _BILLED.get(row["outcome"], Billed.INTERRUPTED))
        for row in rows
    ]
    billed = Counter(row.request_id for row in usage)
    unbilled = [row.request_id for row in emitted if not billed[row.request_id]]
    return Outcome(
        load.rows,
        unbilled,
        len(rows),
        Counter(row["outcome"] for row in rows),
        load.statuses,
        gateway.kills,
        postgres.crashes,
        breaches(load.rows, emitted, usage, key=backend.key),
        gateway.stops_in_vain,
        time.monotonic() - began_s,
    )


async def _story(
    size: Size, load: Load, gateway: Gateway, postgres: Postgres, chance: random.Random
) -> list[asyncpg.Record]:
    await postgres.start()
    with gateway:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(load.run())
            tasks.create_task(_kill(size, load, gateway, postgres, chance))
        await gateway.stop()
    return await postgres.rows()


async def _kill(size: Size, load: Load, gateway: Gateway, postgres: Postgres, chance: random.Random) -> None:
    """Spread kills and crashes over the load: each comes when its share of the requests was answered."""
    events = ["worker", "gateway", "worker"] * size.kills
    events = events[: size.kills] + ["crash"] * size.crashes
    chance.shuffle(events)
    share = size.requests / (len(events) + 1)
    for number, event in enumerate(events, 1):
        await until(partial(load.reached, number * share), "the load stands still", 600)
        if event == "crash":
            await postgres.crash()
        elif event == "worker":
            await gateway.kill_worker(chance)
        else:
            await gateway.kill()
    load.enough = True
