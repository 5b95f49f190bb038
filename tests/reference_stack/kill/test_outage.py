"""While PostgreSQL is away, hung, slow or has no room: the gateway serves, health tells, and no row is lost."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg
import httpx
import pytest

from hxp_harness.faults.backend import Backend
from reference_stack.schemas.api.usage import UsageRow
from reference_stack.services.integration.database.app import create_app
from reference_stack.services.integration.database.port import Unavailable
from reference_stack.services.integration.database.postgres import PostgresDatabase
from tests.reference_stack.infrastructure.conftest import serving
from tests.reference_stack.kill.outage import SmallPostgres, small_postgres
from tests.reference_stack.kill.processes import KEY, Gateway

pytestmark = pytest.mark.xdist_group("outage")  # one PostgreSQL and one gateway for all
FAULTS = ("away", "hung", "slow", "full")
LASTS_S = float(os.environ.get("HXP_OUTAGE_S", "1"))  # the session `outage` makes it a minute
ALONE = LASTS_S >= 10  # the session has the machine for itself; beside other tests only the order of things is held
HEALS_S = 5.0 if ALONE else 60.0
DEADLINE_S = 120.0
# How long a writer waits for its connection to a server that hangs, and for the call itself.
COSTS_AT_MOST_S = 8.0 if ALONE else 60.0
BODY = {"model": "scripted", "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
MINE, BATCH = "mine-", 200
# What health and a writer are told; a slow server is no outage.
SAID = {"away": "cannot be asked", "hung": "in time", "slow": "", "full": "DiskFullError"}


@dataclass
class Seen:
    """What callers got while a fault lasted, and how long it took to heal."""

    requests: Counter[int] = field(default_factory=Counter)
    gateway_ready: Counter[int] = field(default_factory=Counter)
    service_ready: Counter[int] = field(default_factory=Counter)
    service_says: Counter[str] = field(default_factory=Counter)
    writes: Counter[str] = field(default_factory=Counter)
    slowest_request_s: float = 0.0
    slowest_write_s: float = 0.0
    ready_after_s: float = 0.0
    stored_after_s: float = 0.0


@dataclass
class Stage:
    """Who asks the gateway, who asks the database service, who writes by himself; and what they were answered."""

    postgres: SmallPostgres
    gateway: str
    service: str
    served: int = 0  # requests, over all faults
    written: set[str] = field(default_factory=set)
    seen: Seen = field(default_factory=Seen)

    async def play(self, stop: asyncio.Event) -> None:
        """Everybody asks, again and again, until `stop`."""
        headers = {"authorization": f"Bearer {KEY}"}
        async with (
            httpx.AsyncClient(timeout=DEADLINE_S, headers=headers, trust_env=False) as http,
            asyncio.TaskGroup() as group,
        ):
            for work in (self._ask, self._look):
                group.create_task(work(http, stop))
            group.create_task(self._write(stop))

    async def _ask(self, http: httpx.AsyncClient, stop: asyncio.Event) -> None:
        while not stop.is_set():
            began = time.monotonic()
            reply = await http.post(f"{self.gateway}/v1/chat/completions", json=BODY)
            self.served += reply.status_code == 200
            self.seen.requests[reply.status_code] += 1
            self.seen.slowest_request_s = max(self.seen.slowest_request_s, time.monotonic() - began)
            await asyncio.sleep(0.02)  # the rate of the load: some 40 a second

    async def _look(self, http: httpx.AsyncClient, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self.seen.gateway_ready[(await http.get(f"{self.gateway}/health/ready")).status_code] += 1
            reply = await http.get(f"{self.service}/health/ready")
            self.seen.service_ready[reply.status_code] += 1
            self.seen.service_says[reply.json()["dependencies"]["postgresql"]] += 1
            await asyncio.sleep(0.05)  # the rate of looking

    async def _write(self, stop: asyncio.Event) -> None:
        """Write batches, each again until it is acknowledged: as somebody does who must lose nothing."""
        async with _opened(self.postgres) as store:
            while not stop.is_set():
                names = [f"{MINE}{time.monotonic_ns()}-{index}" for index in range(BATCH)]
                while not await self._stored(store, [_row(name) for name in names]):  # noqa: ASYNC110 - it is a caller
                    await asyncio.sleep(0.02)  # a caller's pause before it tries again
                self.written.update(names)
                await asyncio.sleep(0.02)  # the rate of writing

    async def _stored(self, store: PostgresDatabase, rows: list[UsageRow]) -> bool:
        began = time.monotonic()
        try:
            await store.usage.add(rows)
        except Unavailable as error:
            self.seen.writes[error.message] += 1
            return False
        finally:
            self.seen.slowest_write_s = max(self.seen.slowest_write_s, time.monotonic() - began)
        self.seen.writes["stored"] += 1
        return True

    async def told(self, fault: str) -> None:
        """Wait until both the health and a caller's write have said what this fault looks like."""
        words = SAID[fault]
        heard: tuple[Counter[str], ...] = (self.seen.service_says, self.seen.writes)
        await _until(lambda: all(any(words in text for text in counts) for counts in heard))
        looks = self.seen.service_ready.total()
        await _until(lambda: self.seen.service_ready.total() > looks)

    async def rows(self) -> tuple[int, set[str]]:
        """Return how many rows are the gateway's, and the ids of the others."""
        connection = await asyncpg.connect(self.postgres.settings.dsn)
        try:
            ids = [row["request_id"] for row in await connection.fetch("SELECT request_id FROM usage")]
        finally:
            await connection.close()
        others = {name for name in ids if name.startswith(MINE)}
        return len(ids) - len(others), others


@asynccontextmanager
async def _opened(postgres: SmallPostgres) -> AsyncIterator[PostgresDatabase]:
    store = PostgresDatabase(postgres.settings)
    try:
        yield store
    finally:
        await store.close()


def _row(name: str) -> UsageRow:
    return UsageRow(name, "c" * 64, "k", "t", "m", "chat", "complete", 200, True, 1, 1, True, 1.7e9, 0.1)


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not true():  # noqa: ASYNC110 - others count
            await asyncio.sleep(0.02)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A PostgreSQL that can be hurt, a gateway with its journal before it, and the database service."""
    folder = tmp_path_factory.mktemp("outage")
    with small_postgres(folder) as postgres, Backend() as backend:
        gateway = Gateway(folder, backend.base_url, postgres.settings.dsn, workers=1)
        with gateway, serving(create_app(postgres.settings)) as service:
            yield Stage(postgres, f"http://127.0.0.1:{gateway.port}", service)


@pytest.mark.parametrize("fault", FAULTS)
async def test_no_row_is_lost_and_everybody_is_told(stage: Stage, fault: str) -> None:
    """While it lasts every request is served, the gateway is ready, the database service says why it is not, and a
    write ends within its deadlines; lifted, all is ready and every row is stored, once, within 5 s.
    """
    if fault == "full" and stage.postgres.disk is None:
        pytest.skip("not proven: this kernel gives no mount namespace, so no disk can be filled")
    stop, stage.seen = asyncio.Event(), Seen()
    playing = asyncio.create_task(stage.play(stop))
    await _until(lambda: stage.seen.writes["stored"] > 2 and stage.seen.service_ready[200] > 0)
    with stage.postgres.faults[fault]():
        stage.seen.service_ready.clear()
        await asyncio.sleep(LASTS_S)  # the outage itself
        await stage.told(fault)
        during = Counter(stage.seen.service_ready)
        served = stage.served
    lifted_s = time.monotonic()
    good = stage.seen.service_ready[200]
    await _until(lambda: stage.seen.service_ready[200] > good)
    stage.seen.ready_after_s = time.monotonic() - lifted_s
    async with asyncio.timeout(DEADLINE_S):
        while (await stage.rows())[0] < served:  # noqa: ASYNC110 - the journal tells nobody
            await asyncio.sleep(0.05)
    stage.seen.stored_after_s = time.monotonic() - lifted_s
    stop.set()
    await playing
    async with asyncio.timeout(DEADLINE_S):
        while (await stage.rows())[0] < stage.served:  # noqa: ASYNC110 - the journal tells nobody
            await asyncio.sleep(0.05)
    seen = stage.seen
    print(json.dumps({"fault": fault, "lasted_s": LASTS_S, **vars(seen), "service_during": during}))
    assert await stage.rows() == (stage.served, stage.written), "a row is lost, or is there twice"
    assert set(seen.requests) == set(seen.gateway_ready) == {200}
    assert seen.slowest_write_s < COSTS_AT_MOST_S
    assert max(seen.ready_after_s, seen.stored_after_s) < HEALS_S
    if fault == "slow":
        assert set(during) == {200}
    else:
        assert during[503] > 0
        assert during[200] <= 2, "a look that was under way, and one before the disk was asked for room"
