"""What the database has of a real server: deadlines, lost and busy connections, and migrations."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import asyncpg
import pytest

from reference_stack.schemas.configuration.database import DatabaseSettings
from reference_stack.services.integration.database.migrate import Migration, MigrationChanged, migrate, read
from reference_stack.services.integration.database.port import Unavailable
from reference_stack.services.integration.database.postgres import PostgresDatabase
from tests.reference_stack.integration.database_cases import row


async def test_nobody_there_is_unavailable_within_the_deadline(postgres: DatabaseSettings) -> None:
    """Without a server every call raises Unavailable, soon."""
    database = PostgresDatabase(postgres.model_copy(update={"port": 1}))
    assert await database.ping() == "PostgreSQL cannot be asked: ConnectionRefusedError"
    with pytest.raises(Unavailable):
        await database.usage.add([row()])
    await database.close()


async def test_a_silent_server_is_unavailable_within_the_deadline(postgres: DatabaseSettings) -> None:
    """A server that takes connections and says nothing costs the deadline, no more."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        changes = {"port": silent.getsockname()[1], "connect_s": 0.1, "acquire_s": 0.1}
        database = PostgresDatabase(postgres.model_copy(update=changes))
        assert await database.ping() == "PostgreSQL did not answer in time"
        await database.close()


async def test_a_wrong_database_is_refused_in_words(postgres: DatabaseSettings) -> None:
    """A server that refuses us is no outage, and says what is wrong."""
    database = PostgresDatabase(postgres.model_copy(update={"user": "stranger"}))
    assert (await database.ping()).startswith("PostgreSQL refuses: ")
    await database.close()


async def test_lost_connections_are_healed_within_the_call(postgres: DatabaseSettings) -> None:
    """When the server ends our connections, the next call connects again."""
    database = PostgresDatabase(postgres)
    assert await database.ping() == ""
    connection = await asyncpg.connect(postgres.dsn)
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE usename = current_user AND pid <> pg_backend_pid()"
    )
    await connection.close()
    assert await database.ping() == ""
    await database.close()


async def test_all_connections_busy_is_unavailable(postgres: DatabaseSettings) -> None:
    """A pool that is used up refuses within its deadline; close does not wait for who holds a connection."""
    from reference_stack.services.integration.database.migrate import Connection
    from reference_stack.services.integration.database.pool import Pool

    pool = Pool(postgres.model_copy(update={"connection_pool_size": 1, "acquire_s": 0.1}))
    held = asyncio.Event()

    async def hold(_connection: Connection) -> None:
        held.set()
        await asyncio.Event().wait()

    async def nothing(_connection: Connection) -> None: ...

    holding = asyncio.create_task(pool.run(hold))
    await held.wait()
    with pytest.raises(Unavailable, match="in time"):
        await pool.run(nothing)
    await pool.close()
    holding.cancel()
    await asyncio.gather(holding, return_exceptions=True)


async def test_migrations_are_applied_once_and_never_changed(postgres: DatabaseSettings) -> None:
    """A second run applies nothing; a file changed after it was applied is refused by name."""
    connection = await asyncpg.connect(postgres.dsn)
    try:
        await connection.execute("CREATE SCHEMA IF NOT EXISTS scratch; SET search_path TO scratch")
        assert await migrate(connection) == [1, 2, 3, 4, 5, 6, 7]
        assert await migrate(connection) == []
        first, *others = read()
        with pytest.raises(MigrationChanged, match=r"0001 \(keys\)"):
            await migrate(connection, [replace(first, statements="SELECT 1"), *others])
    finally:
        await connection.execute("DROP SCHEMA scratch CASCADE")
        await connection.close()


async def test_a_migration_that_fails_leaves_nothing(postgres: DatabaseSettings) -> None:
    """Migrations are applied all or none."""
    connection = await asyncpg.connect(postgres.dsn)
    try:
        await connection.execute("CREATE SCHEMA IF NOT EXISTS half; SET search_path TO half")
        steps = [Migration(1, "good", "CREATE TABLE good (x int)"), Migration(2, "bad", "CREATE TABLE bad (")]
        with pytest.raises(asyncpg.PostgresSyntaxError):
            await migrate(connection, steps)
        assert await connection.fetchval("SELECT to_regclass('half.good')") is None
    finally:
        await connection.execute("DROP SCHEMA half CASCADE")
        await connection.close()
