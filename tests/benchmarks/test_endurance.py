"""Our gateway, as the benchmark starts it, under traffic that goes on: while a server is out, and for long."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from benchmarks.gateway import ours
from benchmarks.gateway.backing import Backing, backing
from benchmarks.gateway.measure import Bench
from benchmarks.gateway.processes import memory_bytes
from benchmarks.gateway.programs import Load, Programs, Seen, ask, backend
from benchmarks.gateway.room import Room
from benchmarks.gateway.subjects import Running

# One gateway for them all.
pytestmark = pytest.mark.xdist_group("gateway_endurance")
CACHE = Path(__file__).parents[2] / ".hxp" / "cache"
# `nox -s endurance` sends a million.
REQUESTS = int(os.environ.get("HXP_ENDURANCE_REQUESTS", "4000"))
_RATE_RPS = 60
_GROWTH_BYTES = 4_000_000


@dataclass(frozen=True, slots=True)
class Site:
    """A gateway with everything on, and what is around it."""

    gateway: Running
    behind: Backing
    room: Room

    def send(self, load: Load, folder: Path) -> Seen:
        return ask(self.room.bench.programs, self.gateway.port, load, folder)

    def log(self) -> list[str]:
        return self.gateway.log.read_text().splitlines()


@pytest.fixture(scope="module")
def site(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    cores = frozenset(os.sched_getaffinity(0))
    folder = tmp_path_factory.mktemp("site")
    (folder / "backing").mkdir()
    with backend(programs) as served, backing(folder / "backing", CACHE, cores) as behind:
        room = Room(Bench(programs, served, folder, cores), behind, cores, CACHE, lambda _said: None)
        with room.settled():
            gateway = room.start_ours(ours.FULL)
            assert gateway is not None, room.left_out
            yield Site(gateway, behind, room)


def _traffic_around(site: Site, folder: Path, seconds: float, disturb: Callable[[int], None]) -> tuple[Seen, list[str]]:
    """Send requests for `seconds`, meanwhile `disturb`, which is told how many lines the log had until then.

    Return what the client saw, and the log's lines since.
    """
    load = Load(connections=16, rate_rps=_RATE_RPS, warm_s=0.0, seconds=seconds, drain_s=20.0, keys=site.gateway.keys)
    already = _completed(site.log())
    with ThreadPoolExecutor(1) as thread:
        sent = thread.submit(site.send, load, folder)
        _until(lambda: _completed(site.log()) >= already + _RATE_RPS // 2)
        before = len(site.log())
        disturb(before)
        assert not sent.done()
        return sent.result(), site.log()[before:]


def _until(come: Callable[[], bool], limit_s: float = 40.0) -> None:
    deadline_s = time.monotonic() + limit_s
    while not come():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def _completed(lines: list[str]) -> int:
    return sum('"outcome":"complete"' in line for line in lines)


def _warnings(lines: list[str]) -> Counter[str]:
    """Return how often each logger warned: "DATE TIME LEVEL LOGGER TEXT"."""
    words = [line.split(maxsplit=4) for line in lines]
    return Counter(each[3] for each in words if len(each) == 5 and each[2] in ("WARNING", "ERROR"))


async def _stored(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM usage"))
    finally:
        await connection.close()


def test_database_may_crash_under_traffic(site: Site, tmp_path: Path) -> None:
    """PostgreSQL killed and started again: no client notices, each concern warns once, every row is stored."""

    def disturb(before: int) -> None:
        site.behind.postgres.kill()
        _until(lambda: len(site.log()) > before + _RATE_RPS)
        site.behind.postgres.start()

    seen, lines = _traffic_around(site, tmp_path, 4.0, disturb)
    assert (seen.failed, seen.first_error) == (0, "")
    assert seen.requests == pytest.approx(_RATE_RPS * 4, abs=2)
    assert set(_warnings(lines).values()) == {1}, _warnings(lines)
    site.behind.wait_until_ready()
    _until(lambda: asyncio.run(_stored(site.behind.database.dsn)) == _completed(site.log()))


def test_cache_may_freeze_under_traffic(site: Site, tmp_path: Path) -> None:
    """Valkey stopped for long enough to be missed: no request fails or waits for it, and one line says so."""

    def disturb(before: int) -> None:
        site.behind.valkey.freeze()
        _until(lambda: bool(_warnings(site.log()[before:])))
        missed = len(site.log())
        _until(lambda: len(site.log()) > missed + _RATE_RPS)
        site.behind.valkey.thaw()

    seen, lines = _traffic_around(site, tmp_path, 7.0, disturb)
    assert (seen.failed, seen.first_error) == (0, "")
    assert seen.latency_us["max"] < 2e6
    assert set(_warnings(lines).values()) == {1}, _warnings(lines)


def test_memory_is_flat(site: Site, tmp_path: Path) -> None:
    """After the first fifth of many requests, whole and streamed, memory does not grow by more than 4 MB."""
    seen_bytes = []
    bench = site.room.bench
    for part in range(5):
        for events in (0, 4):
            bench.backend.set(answer_bytes=1024, events=4, gap_us=0)
            load = Load(
                connections=32,
                warm_s=0.0,
                seconds=3600.0,
                requests=REQUESTS // 10,
                events=events,
                keys=site.gateway.keys,
            )
            seen = site.send(load, tmp_path)
            assert (seen.requests, seen.failed) == (REQUESTS // 10, 0), (part, seen.first_error)
        seen_bytes.append(memory_bytes(site.gateway.pid))
    assert max(seen_bytes[1:]) - seen_bytes[0] < _GROWTH_BYTES, [f"{size / 1e6:.1f} MB" for size in seen_bytes]
