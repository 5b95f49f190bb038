"""Our gateway, as the benchmark starts it, under traffic that goes on: while a server is out, and for long."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
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
from reference_stack.schemas.api.keys import KeyLimits

# One gateway for them all.
pytestmark = pytest.mark.xdist_group("gateway_endurance")
CACHE = Path(__file__).parents[2] / ".hxp" / "cache"
# `nox -s gateway_endurance` sends a million.
REQUESTS = int(os.environ.get("HXP_ENDURANCE_REQUESTS", "2000"))
_RATE_RPS = 60
# A key whose limit is drawn in small shares, so that the cache is asked for more every other second.
_NARROW = 500
_NARROW_KEY = ours.secrets(_NARROW, 1)
# The gateway remembers a few thousand requests of several kinds: before that many it grows, as it should.
_FILLING = 6000
_MOST_GROWTH_MB, _HIGHEST_MB = 3.0, 12.0
_READINGS = 20 if REQUESTS > 100_000 else 4


@dataclass(frozen=True, slots=True)
class Site:
    """A gateway with everything on, and what is around it."""

    gateway: Running
    behind: Backing
    room: Room

    def send(self, load: Load, folder: Path) -> Seen:
        return ask(self.room.bench.programs, self.gateway.port, load, folder)

    def log(self) -> list[str]:
        return [line for line in self.gateway.log.read_text().split("\n")[:-1] if line.startswith("{")]


@pytest.fixture(scope="module")
def site(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    cores = frozenset(os.sched_getaffinity(0))
    folder = tmp_path_factory.mktemp("site")
    (folder / "backing").mkdir()
    with backend(programs) as served, backing(folder / "backing", CACHE, cores) as behind:
        room = Room(Bench(programs, served, folder, cores), behind, cores, CACHE, lambda _said: None)
        with room.settled():
            narrow = KeyLimits(requests_per_minute=2 * 60 * _RATE_RPS, concurrent=1000)
            behind.put_keys(ours.stored_keys(ours.Variant(limits=narrow), _NARROW))
            gateway = room.start_ours(ours.FULL)
            assert gateway is not None, room.left_out
            yield Site(gateway, behind, room)


def _traffic_around(site: Site, folder: Path, seconds: float, disturb: Callable[[int], int]) -> tuple[Seen, list[str]]:
    """Send requests of the narrow key for `seconds`, and meanwhile `disturb`.

    It is told how many lines the log had before, and returns how many it had when the fault was over. Return what the
    client saw, and the lines between.
    """
    load = Load(connections=16, rate_rps=_RATE_RPS, warm_s=0.0, seconds=seconds, drain_s=20.0, keys=_NARROW_KEY)
    already = _completed(site.log())
    with ThreadPoolExecutor(1) as thread:
        sent = thread.submit(site.send, load, folder)
        _until(lambda: _completed(site.log()) >= already + _RATE_RPS // 2)
        before = len(site.log())
        after = disturb(before)
        assert not sent.done()
        return sent.result(), site.log()[before:after]


def _until(come: Callable[[], bool], limit_s: float = 40.0) -> None:
    deadline_s = time.monotonic() + limit_s
    while not come():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)  # polls a condition, with a deadline


def _completed(lines: list[str]) -> int:
    return sum('"outcome":"complete"' in line for line in lines)


def _warnings(lines: list[str]) -> Counter[str]:
    """Return how often each logger warned."""
    said = [json.loads(line) for line in lines]
    return Counter(each["logger"] for each in said if each.get("level") in ("WARNING", "ERROR", "CRITICAL"))


async def _stored(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM usage"))
    finally:
        await connection.close()


def test_database_may_crash_under_traffic(site: Site, tmp_path: Path) -> None:
    """PostgreSQL killed and started again: no client notices, each concern warns once, every row is stored."""

    def disturb(before: int) -> int:
        site.behind.postgres.kill()
        _until(lambda: len(site.log()) > before + 2 * _RATE_RPS)
        after = len(site.log())
        site.behind.postgres.start()
        return after

    seen, lines = _traffic_around(site, tmp_path, 5.0, disturb)
    assert (seen.failed, seen.first_error) == (0, "")
    assert seen.requests == pytest.approx(_RATE_RPS * 5, abs=2)
    assert set(_warnings(lines).values()) == {1}, _warnings(lines)
    site.behind.wait_until_ready()
    _until(lambda: asyncio.run(_stored(site.behind.database.dsn)) == _completed(site.log()))


def test_cache_may_freeze_under_traffic(site: Site, tmp_path: Path) -> None:
    """Valkey stopped for long enough to be missed: no request fails or waits for it, and one line says so."""

    def disturb(before: int) -> int:
        site.behind.valkey.freeze()
        _until(lambda: bool(_warnings(site.log()[before:])))
        missed = len(site.log())
        _until(lambda: len(site.log()) > missed + _RATE_RPS)
        after = len(site.log())
        site.behind.valkey.thaw()
        return after

    seen, lines = _traffic_around(site, tmp_path, 7.0, disturb)
    assert (seen.failed, seen.first_error) == (0, "")
    assert seen.latency_us["max"] < 2e6
    assert set(_warnings(lines).values()) == {1}, _warnings(lines)


def test_memory_is_flat(site: Site, tmp_path: Path) -> None:
    """Once what is bounded is full, the least memory of a quarter of the run stays within 3 MB of the first one's.

    Above that it goes up and down by some MB, with what waits for a database on a busy machine.
    """
    _send_both(site, tmp_path, _FILLING)
    before = memory_bytes(site.gateway.pid)
    sent: list[float] = []
    grown: list[float] = []
    for _ in range(_READINGS):
        _send_both(site, tmp_path, REQUESTS // _READINGS)
        sent.append(REQUESTS // _READINGS * (len(sent) + 1) / 100_000)
        grown.append((memory_bytes(site.gateway.pid) - before) / 1e6)
    slope_kb = 1000 * statistics.linear_regression(sent, grown).slope
    print(json.dumps({"requests": REQUESTS, "grown_mb": grown, "kb_in_100k_requests": round(slope_kb)}))
    quarter = _READINGS // 4
    assert min(grown[-quarter:]) - min(grown[:quarter]) < _MOST_GROWTH_MB, grown
    assert max(grown) < _HIGHEST_MB, grown


def _send_both(site: Site, folder: Path, requests: int) -> None:
    site.room.bench.backend.set(answer_bytes=1024, events=4, gap_us=0)
    few = Load(connections=32, warm_s=0.0, seconds=3600.0, requests=requests // 2, keys=site.gateway.keys)
    for load in (few, replace(few, events=4)):
        seen = site.send(load, folder)
        assert (seen.requests, seen.failed, seen.first_error) == (requests // 2, 0, "")
