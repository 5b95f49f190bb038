"""Connections to PostgreSQL with a deadline on everything, and a second try where one is safe."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg

from reference_stack.schemas.configuration.database import DatabaseSettings
from reference_stack.services.integration.database.migrate import Connection, migrate
from reference_stack.services.integration.database.port import Unavailable

Answer = TypeVar("Answer")
# Seen while a server stops, crashes and comes back; the connection is gone or was never made.
TRANSIENT: tuple[type[Exception], ...] = (
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    ConnectionError,
)
_UNREACHABLE: tuple[type[Exception], ...] = (*TRANSIENT, asyncpg.InterfaceError, OSError)
_PAUSES_S = (0.01, 0.05, 0.2)


class Pool:
    """A pool that connects when first used, so that a service starts, and heals, whatever its database does.

    The first use also applies the migrations.
    """

    def __init__(self, settings: DatabaseSettings) -> None:
        self._settings = settings
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._opening = asyncio.Lock()

    async def run(self, work: Callable[[Connection], Awaitable[Answer]]) -> Answer:
        """Return what `work` makes of a connection. `work` must be safe to repeat.

        Raises Unavailable when the server cannot be asked, and asyncpg's own errors when it refuses what it is asked.
        """
        try:
            for pause_s in _PAUSES_S:
                try:
                    return await self._once(work)
                except TRANSIENT:
                    await asyncio.sleep(pause_s)
            return await self._once(work)
        except TimeoutError:
            raise Unavailable("PostgreSQL did not answer in time") from None
        except _UNREACHABLE as error:
            raise Unavailable(f"PostgreSQL cannot be asked: {type(error).__name__}") from error

    async def close(self) -> None:
        """Close every connection, politely for a moment and then at once."""
        if self._pool is None:
            return
        try:
            async with asyncio.timeout(0.5):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    async def _once(self, work: Callable[[Connection], Awaitable[Answer]]) -> Answer:
        pool = await self._opened()
        async with pool.acquire(timeout=self._settings.acquire_s) as connection:
            return await work(connection)

    async def _opened(self) -> asyncpg.Pool[asyncpg.Record]:
        if self._pool is not None:
            return self._pool
        async with self._opening:
            if self._pool is None:
                settings = self._settings
                pool = await asyncpg.create_pool(
                    settings.dsn,
                    min_size=0,
                    max_size=settings.connection_pool_size,
                    timeout=settings.connect_s,
                    command_timeout=settings.command_s,
                    ssl=False if settings.backend == "embedded" else None,
                )
                try:
                    if settings.migrate:
                        async with pool.acquire(timeout=settings.acquire_s) as connection:
                            await migrate(connection)
                except BaseException:
                    pool.terminate()
                    raise
                self._pool = pool
        return self._pool
