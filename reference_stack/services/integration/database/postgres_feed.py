"""Tells of changes to API keys in PostgreSQL: as they are committed, and by looking again twice a second."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import asyncpg

from reference_stack.schemas.api.keys import KeyListener
from reference_stack.schemas.configuration.database import DatabaseSettings

log = logging.getLogger(__name__)

_CHANNEL = "api_key"
_EVERY_S = 0.4
_ANSWER_S = 0.5
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 1.0
# A change shows when its transaction ends; one that takes longer than this is told by its notification alone.
_LOOK_BACK_S = 10
# More than this at once, and it is cheaper to ask again for every key than to go through them.
_MOST_CHANGES = 1000
_CHANGES = """
SELECT digest, former_digest, changed FROM api_key
WHERE changed > clock_timestamp() - make_interval(secs => $1) ORDER BY changed DESC LIMIT $2"""
_LOST = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


class PostgresFeed:
    """See schemas.api.keys.KeyFeed. One connection of its own, outside the pool.

    Looking again proves that the connection lives, and finds what a server between us and PostgreSQL swallowed:
    a pooler that shares connections passes no notifications on.
    """

    def __init__(self, settings: DatabaseSettings) -> None:
        self._settings = settings

    async def follow(self, listener: KeyListener) -> None:
        pause_s = _FIRST_PAUSE_S
        out = False
        while True:
            try:
                async with contextlib.aclosing(_Connection(self._settings, listener)) as connection:
                    await connection.open()
                    if out:
                        log.info("changes of keys are heard again")
                    out, pause_s = False, _FIRST_PAUSE_S
                    await connection.listen()
            except _LOST as error:
                listener.watched(False)
                if not out:
                    log.warning("changes of keys are not heard: %s; keys are asked for again", type(error).__name__)
                out = True
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


class _Connection:
    def __init__(self, settings: DatabaseSettings, listener: KeyListener) -> None:
        self._settings = settings
        self._listener = listener
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._told: frozenset[tuple[bytes, object]] = frozenset()

    async def open(self) -> None:
        settings = self._settings
        ssl = False if settings.backend == "embedded" else None
        self._connection = await asyncpg.connect(settings.dsn, timeout=settings.connect_s, ssl=ssl)
        async with asyncio.timeout(settings.connect_s):
            await self._connection.add_listener(_CHANNEL, self._hear)
        await self._look()
        self._listener.watched(True)

    async def listen(self) -> None:
        """Look again and again; raises one of `_LOST` when the connection does not answer."""
        while True:
            await asyncio.sleep(_EVERY_S)
            await self._look()

    async def aclose(self) -> None:
        if self._connection is not None:
            self._connection.terminate()

    def _hear(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        self._listener.changed(bytes.fromhex(str(payload)))

    async def _look(self) -> None:
        assert self._connection is not None  # noqa: S101 - open() comes first
        async with asyncio.timeout(_ANSWER_S):
            rows = await self._connection.fetch(_CHANGES, _LOOK_BACK_S, _MOST_CHANGES + 1)
        if len(rows) > _MOST_CHANGES:
            self._listener.watched(True)
        for row in rows:
            if (row["digest"], row["changed"]) not in self._told:
                for digest in filter(None, (row["digest"], row["former_digest"])):
                    self._listener.changed(digest)
        self._told = frozenset((row["digest"], row["changed"]) for row in rows)
