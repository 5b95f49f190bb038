"""API keys, and what they have spent of their budgets, in PostgreSQL."""

from __future__ import annotations

from functools import lru_cache

import asyncpg

from reference_stack.schemas.api.keys import UNLIMITED, Alter, ApiKey, KeyLimits, StoredKey
from reference_stack.services.integration.database.migrate import Connection
from reference_stack.services.integration.database.pool import Pool
from reference_stack.services.integration.database.port import Drawn, share_of

_COLUMNS = (
    "id",
    "digest",
    "name",
    "tenant",
    "models",
    "revoked",
    "expires",
    "requests_per_minute",
    "tokens_per_minute",
    "concurrent",
    "budget_tokens",
    "answers",
    "former_digest",
    "former_until",
)
_NUMBERED = ", ".join(f"${number}" for number in range(1, len(_COLUMNS) + 1))
# Names of ours and numbered places, never a value.
_INSERT = f"INSERT INTO api_key ({', '.join(_COLUMNS)}) VALUES ({_NUMBERED}) ON CONFLICT (id) DO"  # noqa: S608  # nosec B608
_ADD = f"{_INSERT} NOTHING"
_PUT = f"{_INSERT} UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _COLUMNS[1:])}"  # nosec B608
# Two look-ups by index; one condition with OR would read the table.
FIND_KEY = """
SELECT * FROM (
    SELECT * FROM api_key WHERE digest = $1
    UNION ALL
    SELECT * FROM api_key WHERE former_digest = $1 AND former_until > now()
) found WHERE NOT revoked AND (expires IS NULL OR expires > now())"""
_FIND = "SELECT * FROM api_key WHERE id = $1"
PAGE = """
SELECT * FROM api_key WHERE id COLLATE "C" > $1 AND ($2::text IS NULL OR tenant = $2)
ORDER BY id COLLATE "C" LIMIT $3"""
_OPEN = "INSERT INTO key_spend (key_id, tokens) VALUES ($1, 0) ON CONFLICT (key_id) DO NOTHING"
_SPENT = "SELECT tokens FROM key_spend WHERE key_id = $1"
_SET_SPENT = """
INSERT INTO key_spend (key_id, tokens) VALUES ($1, $2) ON CONFLICT (key_id) DO UPDATE SET tokens = excluded.tokens"""


class PostgresKeys:
    """See port.KeyStore."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def find_key(self, digest: bytes) -> ApiKey | None:
        row = await self._pool.run(lambda connection: connection.fetchrow(FIND_KEY, digest))
        return None if row is None else _stored(row).as_shown(digest)

    async def find(self, key_id: str) -> StoredKey | None:
        row = await self._pool.run(lambda connection: connection.fetchrow(_FIND, key_id))
        return None if row is None else _stored(row)

    async def add(self, stored: StoredKey) -> bool:
        done = await self._pool.run(lambda connection: connection.execute(_ADD, *_values(stored)))
        return done == "INSERT 0 1"

    async def put(self, stored: StoredKey) -> None:
        await self._pool.run(lambda connection: connection.execute(_PUT, *_values(stored)))

    async def change(self, key_id: str, alter: Alter) -> StoredKey | None:
        async def work(connection: Connection) -> StoredKey | None:
            async with connection.transaction():
                row = await connection.fetchrow(f"{_FIND} FOR UPDATE", key_id)
                if row is None:
                    return None
                altered = alter(_stored(row))
                await connection.execute(_PUT, *_values(altered))
                return altered

        return await self._pool.run(work)

    async def revoke(self, key_id: str) -> bool:
        statement = "UPDATE api_key SET revoked = true WHERE id = $1"
        done = await self._pool.run(lambda connection: connection.execute(statement, key_id))
        return done == "UPDATE 1"

    async def all_keys(self) -> list[StoredKey]:
        statement = 'SELECT * FROM api_key ORDER BY id COLLATE "C"'
        rows = await self._pool.run(lambda connection: connection.fetch(statement))
        return [_stored(row) for row in rows]

    async def page(self, after: str, limit: int, tenant: str | None = None) -> list[StoredKey]:
        rows = await self._pool.run(lambda connection: connection.fetch(PAGE, after, tenant, limit))
        return [_stored(row) for row in rows]


def _values(stored: StoredKey) -> tuple[object, ...]:
    key, limits = stored.key, stored.key.limits
    return (
        key.id,
        key.digest,
        stored.name,
        key.tenant,
        sorted(key.models),
        stored.revoked,
        key.expires,
        limits.requests_per_minute,
        limits.tokens_per_minute,
        limits.concurrent,
        limits.budget_tokens,
        key.answers,
        stored.former_digest,
        stored.former_until,
    )


# Many keys have the same terms: those are there once, however many keys are remembered.
_models = lru_cache(1024)(frozenset[str])


@lru_cache(4096)
def _limits(*limits: int | None) -> KeyLimits:
    return KeyLimits(*limits) if any(limit is not None for limit in limits) else UNLIMITED


def _stored(row: asyncpg.Record) -> StoredKey:
    limits = _limits(row["requests_per_minute"], row["tokens_per_minute"], row["concurrent"], row["budget_tokens"])
    key = ApiKey(
        row["id"], row["digest"], _models(tuple(row["models"])), row["tenant"], limits, row["answers"], row["expires"]
    )
    return StoredKey(key, row["name"], row["revoked"], row["former_digest"], row["former_until"])


class PostgresSpend:
    """See port.SpendStore."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def draw(self, key_id: str, budget: int, owed: int, least: int, want: int, most: int) -> Drawn:
        async def work(connection: Connection) -> Drawn:
            async with connection.transaction():
                await connection.execute(_OPEN, key_id)
                before: int = await connection.fetchval(f"{_SPENT} FOR UPDATE", key_id)
                spent = max(before + owed, 0)
                given = share_of(budget - spent, least, want, most)
                await connection.execute("UPDATE key_spend SET tokens = $2 WHERE key_id = $1", key_id, spent + given)
                return Drawn(given, max(budget - spent - given, 0))

        return await self._pool.run(work)

    async def spent(self, key_id: str) -> int:
        found: int | None = await self._pool.run(lambda connection: connection.fetchval(_SPENT, key_id))
        return found or 0

    async def set_spent(self, key_id: str, tokens: int) -> None:
        await self._pool.run(lambda connection: connection.execute(_SET_SPENT, key_id, tokens))
