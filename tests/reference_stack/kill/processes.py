"""What a campaign kills: PostgreSQL, and gateway processes that share one listening socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import asyncpg
import psutil

from reference_stack.orchestration import ports, readiness
from reference_stack.orchestration.process import bound
from reference_stack.schemas.api.keys import digest_of
from reference_stack.schemas.configuration.database import DatabaseSettings
from reference_stack.services.infrastructure.api_gateway.journal.lane import lanes, segments
from reference_stack.services.integration.database.embedded import EmbeddedPostgres

CACHE = Path(__file__).parents[3] / ".hxp" / "cache"
KEY = "key-of-the-campaign"
PEPPER = "a pepper for tests alone"
_START_S = 60.0
_MOST_STOPS = 3


async def until(true: Callable[[], bool], what: str, within_s: float = _START_S) -> None:
    """Wait until it is `true`, or fail with `what`."""
    ends = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < ends, what
        await asyncio.sleep(0.01)


class Postgres:
    """A PostgreSQL that keeps what it acknowledged through a crash (`fsync` is on)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._reservation = ports.reserve()
        self.settings = DatabaseSettings(port=self._reservation.port)
        self._program = EmbeddedPostgres(self.settings, folder, CACHE).prepare()
        self._process: subprocess.Popen[bytes] | None = None
        self.crashes = 0

    async def start(self) -> None:
        self._begin()
        where = self.settings
        ends = time.monotonic() + _START_S
        while reason := await readiness.postgres(where.host, where.port, where.user, where.database)():
            assert time.monotonic() < ends, reason
            await asyncio.sleep(0.02)

    def _begin(self) -> None:
        with (self._folder / "postgres.log").open("ab") as log:
            argv = bound((*self._program.argv, "-c", "fsync=on"), os.getpid())
            self._process = subprocess.Popen(argv, stdout=log, stderr=log, user=self._program.user_id)

    async def stop(self, number: int = signal.SIGINT) -> None:
        """End it as `number` does; SIGQUIT is what `pg_ctl -m immediate` sends."""
        if self._process is None:
            return
        family = psutil.Process(self._process.pid).children(recursive=True)
        self._process.send_signal(number)
        await asyncio.to_thread(self._process.wait, 30)
        await asyncio.to_thread(psutil.wait_procs, family, 30)
        self._process = None

    async def crash(self) -> None:
        self.crashes += 1
        await self.stop(signal.SIGQUIT)
        await self.start()

    async def rows(self) -> list[asyncpg.Record]:
        """Return what the usage log says; nothing while it has no table."""
        connection = await asyncpg.connect(self.settings.dsn)
        try:
            statement = "SELECT request_id, client_request_id, outcome, status, output_tokens FROM usage"
            return list(await connection.fetch(statement))
        finally:
            await connection.close()

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._reservation.close()


def holders(directory: Path) -> dict[Path, int]:
    """Return which process holds which lane, as the kernel says it: trying a lock would keep others from it."""
    pids: dict[int, int] = {}
    for line in Path("/proc/locks").read_text().splitlines():
        _, kind, *_, pid, where, _, _ = line.split()
        if kind == "FLOCK":  # "->" where somebody waits for one
            pids[int(where.rpartition(":")[2])] = int(pid)
    found = {}
    for lane in lanes(directory):
        with contextlib.suppress(FileNotFoundError):
            holder = pids.get((lane / "lock").stat().st_ino)
            if holder is not None:
                found[lane] = holder
    return found


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}


class Gateway:
    """A gateway with workers, on a socket that outlives it: who connects while it is dead waits."""

    def __init__(
        self, folder: Path, base_url: str, dsn: str, *, workers: int, before: Sequence[str] = (), **journal: object
    ) -> None:
        """`before` are words before its command line, `journal` settings of its journal."""
        self.folder = folder
        self._before = tuple(before)
        self.directory = folder / "journal"
        self.kills = 0
        self.stops_in_vain = 0
        self._count = workers
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port = int(self._socket.getsockname()[1])
        (folder / "pepper").write_text(PEPPER)
        settings = {
            "upstreams": {"scripted": {"base_url": base_url}},
            "keys": [{"id": "campaign", "hash": digest_of(KEY.encode(), PEPPER.encode()).hex(), "tenant": "red"}],
            "pepper_file": str(folder / "pepper"),
            "database_dsn": dsn,
            "journal": {"directory": str(self.directory), "segment_bytes": 65536, **journal},
            "workers": workers,
        }
        (folder / "settings.json").write_text(json.dumps(settings))
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self._socket.close()

    def start(self) -> None:
        serve = (sys.executable, "-m", "reference_stack", "serve", "api_gateway")
        told = ("--settings", str(self.folder / "settings.json"), "--fd", str(self._socket.fileno()))
        with (self.folder / "gateway.log").open("ab") as log:
            argv = bound((*self._before, *serve, *told), os.getpid())
            fds = (self._socket.fileno(),)
            self.process = subprocess.Popen(argv, stdout=log, stderr=log, pass_fds=fds, env=_environment())

    def serves(self) -> bool:
        """Whether every worker has a lane of its own, and none is at work on that of a dead one."""
        pids = sorted(each.pid for each in self._workers())
        return len(pids) == self._count and sorted(holders(self.directory).values()) == pids

    async def kill_worker(self, chance: random.Random) -> None:
        """SIGKILL one worker of those that all serve; its parent makes a new one."""
        await until(self.serves, "the workers do not all serve")
        chance.choice(self._workers()).kill()
        self.kills += 1

    async def kill(self) -> None:
        """SIGKILL the parent while all workers serve, and all of them with it; start it again."""
        await until(self.serves, "the workers do not all serve")
        assert self.process is not None
        workers = self._workers()
        self.process.kill()
        self.kills += 1
        self.process.wait()
        await asyncio.to_thread(psutil.wait_procs, workers, 10)
        self.start()

    async def stop(self) -> None:
        """Stop in good order, once the living have stored all that the dead left.

        A database that is slow just then may leave rows on the disk, as is promised; the next gateway stores them.
        """
        await self._stop_once()
        while self.left():
            self.stops_in_vain += 1
            assert self.stops_in_vain < _MOST_STOPS, f"rows are on the disk, and not stored: {self.left()}"
            self.start()
            await self._stop_once()

    async def _stop_once(self) -> None:
        await until(self.serves, "the workers do not all serve")
        await until(self._adopted, "what the dead left was not stored")
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(self.process.wait, 60)
        assert code == 0, (self.folder / "gateway.log").read_text(errors="replace")[-5000:]

    def left(self) -> list[Path]:
        """Return the segments that are on the disk."""
        return [path for lane in lanes(self.directory) for _, path in segments(lane)]

    def _adopted(self) -> bool:
        """Whether only the living have segments, each in its own lane."""
        return self.serves() and {lane for lane in lanes(self.directory) if segments(lane)} == set(
            holders(self.directory)
        )

    def _workers(self) -> list[psutil.Process]:
        assert self.process is not None
        try:
            return psutil.Process(self.process.pid).children()
        except psutil.NoSuchProcess:
            return []
