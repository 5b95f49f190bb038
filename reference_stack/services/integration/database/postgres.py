"""The database in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import asyncpg

from reference_stack.errors import StackError
from reference_stack.schemas.api.keys import KeyFeed
from reference_stack.schemas.api.usage import UsageRow, WrittenRows
from reference_stack.schemas.configuration.database import DatabaseSettings
from reference_stack.services.integration.database.pool import Pool
from reference_stack.services.integration.database.port import (
    KeyStore,
    RowsRefused,
    RunStore,
    SpendStore,
    UsageStore,
    UsageSum,
    UsageTotal,
)
from reference_stack.services.integration.database.postgres_feed import PostgresFeed
from reference_stack.services.integration.database.postgres_keys import PostgresKeys, PostgresSpend
from reference_stack.services.integration.database.postgres_runs import PostgresRuns

# The server refuses it, or it cannot even be sent: a number too large, half a surrogate pair, a year 60000.
_BAD_ROW = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, ValueError, OverflowError)
_ADD_ROWS = """
INSERT INTO usage (request_id, client_request_id, key_id, tenant, model, route, outcome, status, stream, prompt_tokens,
    output_tokens, exact, accepted, took_s, cached)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::int[],
    $9::bool[], $10::bigint[], $11::bigint[], $12::bool[], $13::timestamptz[], $14::float8[], $15::bool[])
ON CONFLICT (request_id) DO NOTHING"""
# What was written down, as it is: the server takes some 4 us a row more to read it, and this process some 14 us less.
_ADD_WRITTEN = """
INSERT INTO usage (request_id, client_request_id, key_id, tenant, model, route, outcome, status, stream, prompt_tokens,
    output_tokens, exact, accepted, took_s, cached)
SELECT r->>1, r->>2, r->>3, r->>4, r->>5, r->>6, r->>7, (r->8)::int, (r->9)::bool, (r->>10)::bigint, (r->11)::bigint,
    (r->12)::bool, to_timestamp((r->13)::float8), (r->14)::float8, coalesce((r->15)::bool, false)
FROM jsonb_array_elements($1::text::jsonb) AS r ON CONFLICT (request_id) DO NOTHING"""
_IDS = "SELECT request_id FROM usage WHERE accepted >= $1 AND accepted < $2 ORDER BY accepted, request_id"
_KNOWN = "SELECT request_id FROM usage WHERE request_id = ANY($1)"
_USED = """
SELECT key_id, tenant, model, count(*) AS requests, count(*) FILTER (WHERE outcome = 'complete') AS complete,
    count(*) FILTER (WHERE outcome = 'interrupted') AS interrupted,
    count(*) FILTER (WHERE outcome = 'cancelled') AS cancelled, count(*) FILTER (WHERE outcome = 'failed') AS failed,
    count(*) FILTER (WHERE NOT exact) AS inexact, coalesce(sum(prompt_tokens), 0)::bigint AS prompt_tokens,
    sum(output_tokens)::bigint AS output_tokens
FROM usage WHERE accepted >= $1 AND accepted < $2 GROUP BY key_id, tenant, model"""
_SUMS = """
SELECT key_id, model, count(*) AS requests, coalesce(sum(prompt_tokens), 0) AS prompt_tokens,
    sum(output_tokens) AS output_tokens
FROM usage WHERE accepted >= $1 AND accepted < $2"""
_TOTALS = f"{_SUMS} GROUP BY key_id, model ORDER BY key_id, model"
_KEY_TOTALS = f"{_SUMS} AND key_id = $3 GROUP BY key_id, model ORDER BY model"


# One message each way. A file of some 100 kB is written and dropped, which takes no room in the server's log.
_TAKES_WRITES = """
DO $$ BEGIN
    IF current_setting('transaction_read_only') = 'on' THEN RAISE read_only_sql_transaction; END IF;
    PERFORM set_config('work_mem', '64kB', true);
    PERFORM count(*) FROM generate_series(1, 5000);
END $$"""


class PostgresDatabase:
    """See port.Database."""

    def __init__(self, settings: DatabaseSettings) -> None:
        self._pool = Pool(settings)
        self.keys: KeyStore = PostgresKeys(self._pool)
        self.feed: KeyFeed = PostgresFeed(settings)
        self.spend: SpendStore = PostgresSpend(self._pool)
        self.usage: UsageStore = PostgresUsage(self._pool)
        self.runs: RunStore = PostgresRuns(self._pool)

    async def ping(self) -> str:
        """Ask whether it takes writes: one that is read-only, or whose disk is full, answers all other questions."""
        try:
            await self._pool.run(lambda connection: connection.execute(_TAKES_WRITES))
        except StackError as error:
            return error.message
        except asyncpg.PostgresError as error:  # it answers, and refuses us: a wrong password, no such database
            return f"PostgreSQL refuses: {type(error).__name__}"
        return ""

    async def close(self) -> None:
        await self._pool.close()


class PostgresUsage:
    """See port.UsageStore."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add(self, rows: Sequence[UsageRow]) -> None:
        """Store `rows` in one statement; where one of them spoils it, one by one, so that only that one is missing."""
        if not rows:
            return
        try:
            await self._insert(rows)
        except _BAD_ROW as error:
            if len(rows) == 1 and not isinstance(rows, WrittenRows):
                raise RowsRefused(rows, type(error).__name__) from error
            await self._add_one_by_one(rows)

    async def _add_one_by_one(self, rows: Sequence[UsageRow]) -> None:
        refused: list[UsageRow] = []
        for row in rows:
            try:
                await self.add([row])
            except RowsRefused as error:
                refused += error.rows
        if refused:
            raise RowsRefused(refused, "each was tried alone")

    async def _insert(self, rows: Sequence[UsageRow]) -> None:
        if isinstance(rows, WrittenRows):
            text = rows.json
            await self._pool.run(lambda connection: connection.execute(_ADD_WRITTEN, text))
            return
        columns = zip(*(_values(row) for row in rows), strict=True)
        values = [list(column) for column in columns]
        await self._pool.run(lambda connection: connection.execute(_ADD_ROWS, *values))

    async def request_ids(self, since: datetime, until: datetime) -> list[str]:
        rows = await self._pool.run(lambda connection: connection.fetch(_IDS, since, until))
        return [row["request_id"] for row in rows]

    async def sums(self, since: datetime, until: datetime) -> list[UsageSum]:
        rows = await self._pool.run(lambda connection: connection.fetch(_USED, since, until))
        found = [UsageSum(**{name: row[name] for name in row.keys()}) for row in rows]  # noqa: SIM118 - a Record is no dict
        return sorted(found, key=lambda each: (each.key_id, each.tenant, each.model))

    async def known(self, request_ids: Sequence[str]) -> set[str]:
        rows = await self._pool.run(lambda connection: connection.fetch(_KNOWN, list(request_ids)))
        return {row["request_id"] for row in rows}

    async def totals(self, since: datetime, until: datetime) -> list[UsageTotal]:
        return await self._sums(_TOTALS, since, until)

    async def key_totals(self, key_id: str, since: datetime, until: datetime) -> list[UsageTotal]:
        return await self._sums(_KEY_TOTALS, since, until, key_id)

    async def _sums(self, statement: str, *values: object) -> list[UsageTotal]:
        rows = await self._pool.run(lambda connection: connection.fetch(statement, *values))
        return [
            UsageTotal(
                row["key_id"], row["model"], row["requests"], int(row["prompt_tokens"]), int(row["output_tokens"])
            )
            for row in rows
        ]


def _values(row: UsageRow) -> tuple[object, ...]:
    accepted = datetime.fromtimestamp(row.accepted_at_s, UTC)
    return (
        row.request_id,
        row.client_request_id,
        row.key_id,
        row.tenant,
        row.model,
        row.route,
        row.outcome,
        row.status,
        row.stream,
        row.prompt_tokens,
        row.output_tokens,
        row.exact,
        accepted,
        row.took_s,
        row.cached,
    )
