"""PostgreSQL and Valkey for our gateway, on the client's core: what they cost is not the gateway's."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from benchmarks.gateway.processes import tree
from benchmarks.gateway.programs import CannotRun, on_cores
from reference_stack.errors import NotReady
from reference_stack.orchestration import ports
from reference_stack.orchestration.process import bound
from reference_stack.schemas.api.keys import ApiKey
from reference_stack.schemas.common.program import Program
from reference_stack.schemas.configuration.cache import CacheSettings
from reference_stack.schemas.configuration.database import DatabaseSettings
from reference_stack.services.integration.cache import embedded
from reference_stack.services.integration.cache.client import connect
from reference_stack.services.integration.database.embedded import EmbeddedPostgres
from reference_stack.services.integration.database.postgres import PostgresDatabase

_READY_S = 60.0
_KEY_COLUMNS = (
    "id", "digest", "models", "requests_per_minute", "tokens_per_minute", "concurrent", "budget_tokens", "answers",
)  # fmt: skip
_T = TypeVar("_T")


class Server:
    """One server, which faults may be done to; they hit all of its processes at once."""

    def __init__(self, program: Program, cores: frozenset[int]) -> None:
        self._program = program
        self._cores = cores
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        null = subprocess.DEVNULL
        with on_cores(self._cores):
            self._process = subprocess.Popen(
                bound(self._program.argv, os.getpid()),
                stdout=null,
                stderr=null,
                user=self._program.user_id,
                env={**os.environ, **self._program.environment},
            )

    def kill(self) -> None:
        self._send(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
        self._process = None

    def freeze(self) -> None:
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        self._send(signal.SIGCONT)

    def _send(self, number: int) -> None:
        for pid in tree(self._process.pid) if self._process is not None else ():
            with suppress(ProcessLookupError):
                os.kill(pid, number)


@dataclass(frozen=True, slots=True)
class Backing:
    """Servers of one run; there are no keys until `put_keys`."""

    database: DatabaseSettings
    cache: CacheSettings
    postgres: Server
    valkey: Server

    @property
    def cache_url(self) -> str:
        return f"redis://{self.cache.host}:{self.cache.port}/0"

    def put_keys(self, keys: Sequence[ApiKey]) -> None:
        """Add `keys`; gateways that run already are not told, and need not be."""
        _run(_put(self.database.dsn, keys))

    def wait_until_ready(self) -> None:
        """Raises CannotRun when a server does not answer in time."""
        _run(_until_ready(self.database, self.cache))


@contextmanager
def backing(folder: Path, cache: Path, cores: frozenset[int]) -> Iterator[Backing]:
    """Start both servers on `cores`, the database migrated; `cache` has the cluster to copy. Raises CannotRun."""
    places = [ports.reserve(), ports.reserve()]
    database, kept = DatabaseSettings(port=places[0].port), CacheSettings(port=places[1].port)
    try:
        servers = [
            Server(EmbeddedPostgres(database, folder, cache).prepare(), cores),
            Server(embedded.program(kept, folder), cores),
        ]
    except NotReady as error:
        raise CannotRun(f"PostgreSQL or Valkey: {error}") from None
    try:
        for server in servers:
            server.start()
        behind = Backing(database, kept, *servers)
        behind.wait_until_ready()
        yield behind
    finally:
        for server in servers:
            server.kill()
        for place in places:
            place.close()


def _run(work: Coroutine[Any, Any, _T]) -> _T:
    return asyncio.run(work)


async def _until_ready(database: DatabaseSettings, kept: CacheSettings) -> None:
    store, client = PostgresDatabase(database), connect(kept)
    deadline_s = time.monotonic() + _READY_S
    try:
        while problem := await store.ping() or await client.ping():
            if time.monotonic() > deadline_s:
                raise CannotRun(f"PostgreSQL or Valkey: {problem}")
            await asyncio.sleep(0.05)
    finally:
        await store.close()
        await client.close()


async def _put(dsn: str, keys: Sequence[ApiKey]) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            # A hundred thousand notices, one a key, are what nobody waits for here.
            await connection.execute("ALTER TABLE api_key DISABLE TRIGGER USER")
            await connection.copy_records_to_table("api_key", records=map(_record, keys), columns=_KEY_COLUMNS)
            await connection.execute("ALTER TABLE api_key ENABLE TRIGGER USER")
        await connection.execute("ANALYZE api_key")
    finally:
        await connection.close()


def _record(key: ApiKey) -> tuple[Any, ...]:
    limits = key.limits
    amounts = (limits.requests_per_minute, limits.tokens_per_minute, limits.concurrent, limits.budget_tokens)
    return (key.id, key.digest, sorted(key.models), *amounts, key.answers)
