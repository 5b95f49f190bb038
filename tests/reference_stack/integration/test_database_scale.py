"""The database with a hundred thousand rows in it: nothing is lost, nothing is slow for want of an index."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from reference_stack.schemas.api.usage import UsageRow
from reference_stack.schemas.configuration.database import DatabaseSettings
from reference_stack.services.integration.database import postgres as statements
from reference_stack.services.integration.database import postgres_keys, postgres_runs
from reference_stack.services.integration.database.pool import Pool
from reference_stack.services.integration.database.port import UsageTotal
from reference_stack.services.integration.database.postgres import PostgresDatabase

ROWS, BATCH = 100_000, 500
START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = (START + timedelta(hours=10), START + timedelta(hours=11))
RUNS = """
INSERT INTO run SELECT 'run-' || n, $1::timestamptz + n * interval '1 minute', 'p', 's' || n % 50, 'simulated', '{}'
FROM generate_series(1, 20000) n"""
VERDICTS = "INSERT INTO verdict SELECT id, 1, 'PASS', '{}', started FROM run"
KEYS = """
INSERT INTO api_key (id, digest, models)
SELECT 'k' || n, sha256(n::text::bytea), '{*}' FROM generate_series(1, 20000) n"""


def row(number: int) -> UsageRow:
    accepted_at_s = START.timestamp() + number
    key, model = f"k{number % 7}", f"m{number % 4}"
    return UsageRow(
        f"r{number:08}", "", key, "acme", model, "chat", "complete", 200, True, 10, 5, True, accepted_at_s, 0.5
    )


@pytest.fixture
async def emptied(postgres: DatabaseSettings) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection to the session's database, which is empty before and after."""
    database = PostgresDatabase(postgres)
    assert await database.ping() == ""
    await database.close()
    connection = await asyncpg.connect(postgres.dsn)
    await connection.execute("TRUNCATE api_key, usage, run, verdict")
    yield connection
    await connection.execute("TRUNCATE api_key, usage, run, verdict")
    await connection.close()


async def scanned(connection: asyncpg.Connection[asyncpg.Record], statement: str, values: Sequence[object]) -> set[str]:
    """Return the tables that the server would read whole to answer `statement`."""
    plan = json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *values))

    def scans(node: dict[str, object]) -> set[str]:
        found = {str(node["Relation Name"])} if node["Node Type"] == "Seq Scan" else set()
        inner = node.get("Plans", [])
        assert isinstance(inner, list)
        return found.union(*(scans(each) for each in inner))

    return scans(plan[0]["Plan"])


async def test_a_hundred_thousand_rows(emptied: asyncpg.Connection[asyncpg.Record], postgres: DatabaseSettings) -> None:
    """All are stored once, sums are right, and what the repositories ask for selectively reads no table whole."""
    database = PostgresDatabase(postgres.model_copy(update={"command_s": 60.0}))
    for first in range(0, ROWS, BATCH):
        await database.usage.add([row(number) for number in range(first, first + BATCH)])
    await database.usage.add([row(number) for number in range(ROWS - BATCH, ROWS)])  # again: changes nothing
    totals = await database.usage.totals(START, START + timedelta(days=2))
    assert sum(total.requests for total in totals) == ROWS
    assert totals[0] == UsageTotal("k0", "m0", 3572, 35720, 17860)
    began = time.monotonic()
    hour = await database.usage.request_ids(*HOUR)
    assert time.monotonic() - began < 1.0
    assert hour == [row(number).request_id for number in range(36_000, 39_600)]
    await database.close()

    await emptied.execute(RUNS.replace("$1", f"'{START.isoformat()}'"))
    await emptied.execute(VERDICTS)
    await emptied.execute(KEYS)
    await emptied.execute("ANALYZE")
    asked: list[tuple[str, Sequence[object]]] = [
        (postgres_keys.FIND_KEYS, ([bytes(32)],)),
        (postgres_keys.PAGE, ("k5", None, 100)),
        (statements._IDS, HOUR),
        (statements._TOTALS, HOUR),
        (statements._KEY_TOTALS, (*HOUR, "k7")),
        (postgres_runs.FIND, ("run-7",)),
        (postgres_runs.RECENT, (50,)),
        (postgres_runs.RECENT_OF, (50, "s7")),
        (postgres_runs.VERDICTS, ("run-7",)),
    ]
    for statement, values in asked:
        assert await scanned(emptied, statement, values) == set(), statement
    assert await scanned(emptied, "SELECT * FROM usage WHERE took_s < $1", (1.0,)) == {"usage"}


async def test_a_statement_is_prepared_once(postgres: DatabaseSettings) -> None:
    """The same question twice on a connection is parsed and planned once: the statement cache works."""
    pool = Pool(postgres.model_copy(update={"connection_pool_size": 1}))
    database = PostgresDatabase(postgres)
    database.keys._pool = pool  # type: ignore[attr-defined]  # one connection, so that the count is its own
    for _ in range(5):
        await database.keys.find_key(bytes(32))
    count = "SELECT count(*) FROM pg_prepared_statements WHERE statement = $1"
    assert await pool.run(lambda connection: connection.fetchval(count, postgres_keys.FIND_KEYS)) == 1
    await pool.close()
    await database.close()
