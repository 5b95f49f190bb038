"""API keys, and what they have spent of their budgets, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from sys import intern

import asyncpg

from reference_stack.schemas.api.keys import UNLIMITED, Alter, ApiKey, KeyLimits, StoredKey
from reference_stack.services.integration.database.migrate import Connection
from reference_stack.services.integration.database.pool import Pool
from reference_stack.services.integration.database.port import SHARES, Drawn
from reference_stack.together import Together

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
FIND_KEYS = """
SELECT * FROM (
    SELECT *, digest AS shown FROM api_key WHERE digest = ANY($1)
    UNION ALL
    SELECT *, former_digest AS shown FROM api_key WHERE former_digest = ANY($1) AND former_until > now()
) found WHERE NOT revoked AND (expires IS NULL OR expires > now())"""
_FIND = "SELECT * FROM api_key WHERE id = $1"
PAGE = """
SELECT * FROM api_key WHERE id COLLATE "C" > $1 AND ($2::text IS NULL OR tenant = $2)
ORDER BY id COLLATE "C" LIMIT $3"""
# In the order of the keys, so that two who draw on the same ones never wait for each other.
_DRAW = """
SELECT place, given, remaining FROM (
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[])
    WITH ORDINALITY AS asked (key, budget, owed, fewest, wanted, most, place) ORDER BY key, place
) asked, LATERAL draw_on_budget(key, budget, owed, fewest, wanted, most, $7)"""
_SPENT = "SELECT tokens FROM key_spend WHERE key_id = $1"
_SET_SPENT = """
INSERT INTO key_spend (key_id, tokens) VALUES ($1, $2) ON CONFLICT (key_id) DO UPDATE SET tokens = excluded.tokens"""


class PostgresKeys:
    """See port.KeyStore."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._found = Together(self._find_keys)

    async def find_key(self, digest: bytes) -> ApiKey | None:
        return await self._found(digest)

    async def _find_keys(self, digests: Sequence[bytes]) -> list[ApiKey | None]:
        rows = await self._pool.run(lambda connection: connection.fetch(FIND_KEYS, digests))
        found = {row["shown"]: row for row in rows}
        return [_stored(found[digest]).as_shown(digest) if digest in found else None for digest in digests]

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
        row["id"],
        row["digest"],
        _models(tuple(row["models"])),
        intern(row["tenant"]),
        limits,
        row["answers"],
        row["expires"],
    )
    return StoredKey(key, row["name"], row["revoked"], row["former_digest"], row["former_until"])


class PostgresSpend:
    """See port.SpendStore."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._drawn = Together(self._draw_all)

    async def draw(self, key_id: str, budget: int, owed: int, least: int, want: int, most: int) -> Drawn:
        return await self._drawn((key_id, budget, owed, least, want, most))

    async def _draw_all(self, asked: Sequence[tuple[str, int, int, int, int, int]]) -> list[Drawn]:
        columns = [list(column) for column in zip(*asked, strict=True)]
        rows = await self._pool.run(lambda connection: connection.fetch(_DRAW, *columns, SHARES))
        drawn = {row["place"]: Drawn(row["given"], row["remaining"]) for row in rows}
        return [drawn[place] for place in range(1, len(asked) + 1)]

    async def spent(self, key_id: str) -> int:
        found: int | None = await self._pool.run(lambda connection: connection.fetchval(_SPENT, key_id))
        return found or 0

    async def set_spent(self, key_id: str, tokens: int) -> None:
        await self._pool.run(lambda connection: connection.execute(_SET_SPENT, key_id, tokens))
