"""Changes of keys are heard whatever lies between PostgreSQL and who listens."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from reference_stack.schemas.configuration.database import DatabaseSettings
from reference_stack.services.integration.database.postgres import PostgresDatabase
from reference_stack.services.integration.database.postgres_feed import PostgresFeed
from tests.reference_stack.integration.database_cases import Heard, until

_LISTENERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE query LIKE '%FROM api_key%make_interval%' AND pid <> pg_backend_pid()"""
_ADD = "INSERT INTO api_key (id, digest, models) SELECT 'k' || n, sha256(n::text::bytea), '{*}' FROM "


@pytest.fixture
async def admin(postgres: DatabaseSettings) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection to an empty database."""
    database = PostgresDatabase(postgres)
    assert await database.ping() == ""
    await database.close()
    connection = await asyncpg.connect(postgres.dsn)
    await connection.execute("TRUNCATE api_key")
    yield connection
    await connection.close()


@asynccontextmanager
async def following(settings: DatabaseSettings) -> AsyncIterator[Heard]:
    heard = Heard()
    follower = asyncio.create_task(PostgresFeed(settings).follow(heard))
    try:
        yield heard
    finally:
        follower.cancel()
        await asyncio.gather(follower, return_exceptions=True)


async def test_without_notifications_changes_are_found_within_a_second(
    postgres: DatabaseSettings, admin: asyncpg.Connection[asyncpg.Record]
) -> None:
    """Behind a pooler that passes no notifications on, looking again finds a change, and tells it once."""
    await admin.execute("ALTER TABLE api_key DISABLE TRIGGER api_key_tell")
    try:
        async with following(postgres) as heard:
            await until(lambda: heard.states == [True])
            await admin.execute(_ADD + "generate_series(1, 1) n")
            await until(lambda: len(heard.digests) == 1, within_s=2.0)
            await admin.execute("UPDATE api_key SET former_digest = sha256('old')")
            await until(lambda: len(heard.digests) == 3, within_s=2.0)
            await admin.execute(_ADD + "generate_series(2, 1500) n")
            await until(lambda: heard.states == [True, True])
            assert len(heard.digests) < 3 + 1500 * 2
    finally:
        await admin.execute("ALTER TABLE api_key ENABLE TRIGGER api_key_tell")


async def test_a_lost_connection_is_told_and_made_again(
    postgres: DatabaseSettings, admin: asyncpg.Connection[asyncpg.Record], caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever listens hears that changes may be missed, and when they are told again; the log has a line for each."""
    caplog.set_level(logging.INFO)
    async with following(postgres) as heard:
        await until(lambda: heard.states == [True])
        await admin.execute(_LISTENERS)
        await until(lambda: heard.states == [True, False, True])
        await admin.execute(_ADD + "generate_series(1, 1) n")
        await until(lambda: len(heard.digests) > 0)
    lines = [record.getMessage().partition(":")[0] for record in caplog.records]
    assert lines == ["changes of keys are not heard", "changes of keys are heard again"]


async def test_nobody_there_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """With no server there, one line says so, however often it is tried."""
    async with following(DatabaseSettings(port=1)) as heard:
        await until(lambda: len(heard.states) >= 3)
    assert set(heard.states) == {False}
    assert len(caplog.records) == 1
