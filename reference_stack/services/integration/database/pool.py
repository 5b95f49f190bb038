"""Connections to PostgreSQL with a deadline on everything, and a second try where one is safe."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg

from reference_stack.schemas.configuration.database import DatabaseSettings
from reference_stack.services.integration.database.migrate import Connection, migrate
from reference_stack.services.integration.database.port import Unavailable

Answer = TypeVar("Answer")
# Seen while a server stops, crashes and comes back: the connection is gone, or was never made.
_LOST: tuple[type[Exception], ...] = (
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InternalClientError,
    ConnectionError,
)
# And where two transactions were in each other's way.
TRANSIENT: tuple[type[Exception], ...] = (
    *_LOST,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.InvalidCachedStatementError,
)
# Something may still be under way on the connection: a polite end would wait for a server that hangs, or find the
# client's own state in disorder.
_BROKEN_OFF: tuple[type[BaseException], ...] = (*_LOST, TimeoutError, asyncio.CancelledError)
# Out of disk or memory, or a file that cannot be read or written: it is there and cannot serve.
_UNABLE: tuple[type[Exception], ...] = (asyncpg.InsufficientResourcesError, asyncpg.PostgresSystemError)
_UNREACHABLE: tuple[type[Exception], ...] = (*TRANSIENT, asyncpg.InterfaceError, OSError)
_PAUSES_S = (0.01, 0.05, 0.2)
# Shares of a deadline: the server gives up first, so that nothing of ours goes on in it.
_STATEMENT_SHARE, _LOCK_SHARE = 0.9, 0.8
READ_ONLY = "PostgreSQL is read-only"
STATEMENTS_CACHED = 100


class Pool:
    """A pool that connects when first used, so that a service starts, and heals, whatever its database does.

    The first use also applies the migrations; those who come meanwhile wait for them within their own deadline.
    """

    def __init__(self, settings: DatabaseSettings) -> None:
        self._settings = settings
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._opening: asyncio.Task[asyncpg.Pool[asyncpg.Record]] | None = None

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
        except (TimeoutError, asyncpg.QueryCanceledError):
            raise Unavailable("PostgreSQL did not answer in time") from None
        except asyncpg.LockNotAvailableError:
            raise Unavailable("PostgreSQL did not answer in time: what was asked for is locked") from None
        except asyncpg.ReadOnlySQLTransactionError as error:
            raise Unavailable(READ_ONLY) from error
        except _UNABLE as error:
            raise Unavailable(f"PostgreSQL cannot serve: {type(error).__name__}") from error
        except _UNREACHABLE as error:
            if isinstance(error, ValueError):  # a value that cannot even be sent
                raise
            raise Unavailable(f"PostgreSQL cannot be asked: {type(error).__name__}") from error

    async def close(self) -> None:
        """Close every connection, politely for a moment and then at once."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait({self._opening})
        if self._pool is None:
            return
        try:
            async with asyncio.timeout(0.5):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    async def _once(self, work: Callable[[Connection], Awaitable[Answer]]) -> Answer:
        pool = self._pool or await self._opened()
        connection = await pool.acquire(timeout=self._settings.acquire_s)
        try:
            async with asyncio.timeout(self._settings.command_s):
                return await work(connection)
        except _BROKEN_OFF:
            with contextlib.suppress(asyncpg.InterfaceError):  # the pool may have seen it go and taken it back
                connection.terminate()
            raise
        finally:
            await pool.release(connection)

    async def _opened(self) -> asyncpg.Pool[asyncpg.Record]:
        """Return the pool; whoever comes first opens it, and nobody's deadline cuts a migration off."""
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
        opening = self._opening
        await asyncio.wait({opening}, timeout=self._settings.connect_s + self._settings.acquire_s)
        if not opening.done():
            raise TimeoutError
        if self._opening is opening:
            self._opening = None
        return opening.result()

    async def _open(self) -> asyncpg.Pool[asyncpg.Record]:
        settings = self._settings
        limits_ms = {"statement_timeout": _STATEMENT_SHARE, "lock_timeout": _LOCK_SHARE}
        pool = await asyncpg.create_pool(
            settings.dsn,
            min_size=0,
            max_size=settings.connection_pool_size,
            timeout=settings.connect_s,
            statement_cache_size=STATEMENTS_CACHED,
            server_settings={name: _ms(share * settings.command_s) for name, share in limits_ms.items()},
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
        return pool


def _ms(seconds: float) -> str:
    return str(max(1, round(seconds * 1000)))
