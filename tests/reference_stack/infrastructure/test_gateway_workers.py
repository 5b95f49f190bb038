"""The gateway's workers as real processes: renewed, killed, held up and counted under load."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import statistics
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

from reference_stack.services.infrastructure.api_gateway.measures import MOST_UNCOUNTED
from tests.reference_stack.infrastructure.gateway_processes import (
    CHAT,
    KEY,
    Load,
    Served,
    served,
    until,
)

NIGHTLY = os.environ.get("GATEWAY_PROCESS_SIZE") == "nightly"


async def test_rolling_restarts_fail_nobody(standing: Served) -> None:
    """Three rolling restarts under load: every worker is another one, and no request fails."""
    before = set(standing.serving())
    async with Load(standing.port, 32 if NIGHTLY else 16) as load:
        for _ in range(20 if NIGHTLY else 3):
            assert await asyncio.to_thread(standing.ask, "restart") == {"ok": True, "error": ""}
            await load.reach(200)
    assert (load.ended["lost"], load.ended["refused"], load.errors) == (0, 0, [])
    assert load.ended["ok"] > 600
    after = set(standing.serving())
    assert len(after) == 2
    assert not before & after
    until(lambda: not before & set(psutil.pids()))


async def test_a_killed_worker_costs_its_open_requests_alone(standing: Served) -> None:
    """SIGKILL of a worker under load fails no more requests than it had open; another one serves, within 2 s.

    In the nightly size that is the median of twenty, and as many times longer as processes wait for each core.
    """
    healed_s = []
    async with Load(standing.port) as load:
        for _ in range(20 if NIGHTLY else 2):
            lost = load.ended["lost"]
            victim = (await asyncio.to_thread(standing.serving))[0]
            os.kill(victim, signal.SIGKILL)
            killed_s = time.monotonic()
            await asyncio.to_thread(standing.replaced, victim)
            healed_s.append(time.monotonic() - killed_s)
            await load.reach(3000 if NIGHTLY else 100)
            assert load.ended["lost"] - lost <= load.clients
    # In the short form the machine may have much else to do.
    crowd = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert not NIGHTLY or statistics.median(healed_s) < 2.0 * crowd
    assert load.ended["refused"] == 0
    assert "ended by itself (SIGKILL): replaced at once" in standing.log


async def test_counts_go_on_over_kills_and_restarts(standing: Served) -> None:
    """Counters of all workers are one page, never go back, and in the end are what the clients counted."""
    first = before = standing.counts()
    relayed = standing.relayed()
    async with Load(standing.port, 8) as load:
        for step in (lambda: standing.ask("restart"), lambda: os.kill(standing.serving()[0], signal.SIGKILL)):
            await load.reach(100)
            await asyncio.to_thread(step)
            now = await asyncio.to_thread(standing.counts)
            for (name, labels), value in before.items():
                if name.endswith(("_total", "_bucket", "_count", "_sum")):
                    assert now[name, labels] >= value, name
            before = now
        await load.reach(100)
    until(lambda: len(standing.serving()) == 2)
    # The one that was killed may have counted a request whose answer was lost, and answered some that it did not count.
    counted = standing.relayed() - relayed
    assert load.ended["ok"] - load.clients - MOST_UNCOUNTED <= counted <= load.ended["ok"] + load.ended["lost"]
    last, done = standing.counts(), ("hxp_gateway_rolling_restarts_total", (("result", "done"),))
    assert last[done] == first.get(done, 0.0) + 1.0
    deaths = ("hxp_gateway_worker_deaths_total", ())
    assert last[deaths] == first[deaths] + 1.0


def test_unknown_names_make_no_series(standing: Served) -> None:
    """A thousand unknown models and paths leave the sets of labels as they were."""
    with standing.client() as client:
        for name in range(20):  # until each worker knows what it counts
            client.post("/v1/chat/completions", json={**CHAT, "model": f"unknown-{name}"})
            client.get(f"/unknown/{name}")
            client.get("/metrics")
        before = set(standing.counts())
        assert len(before) > 20
        for name in range(10_000 if NIGHTLY else 1000):
            path = "/v1/chat/completions" if name % 2 else f"/unknown/{name}"
            assert client.post(path, json={**CHAT, "model": f"unknown-{name}"}).status_code == 404
    assert set(standing.counts()) == before
    assert "unknown-" not in standing.get("/metrics").text


def test_workers_end_with_their_parent(backend: Any, tmp_path: Path) -> None:
    """When the parent is killed nothing goes on serving."""
    with served(tmp_path, backend.url) as gateway:
        family = psutil.Process(gateway.process.pid).children(recursive=True)
        assert len(family) == 2
        gateway.process.kill()
        gateway.process.wait(5)
        assert psutil.wait_procs(family, timeout=5)[1] == []


def test_a_worker_whose_loop_stands_still_is_reported(backend: Any, tmp_path: Path) -> None:
    """A worker that does not answer is reported once and goes on when it can; where that is set, it is replaced."""
    process = {"control": str(tmp_path / "control"), "stuck_s": 1.0}
    with served(tmp_path, backend.url, process=process) as gateway:
        before = gateway.serving()
        report = f"worker {before[0]}: its event loop has not answered for"
        os.kill(before[0], signal.SIGSTOP)
        until(lambda: report in gateway.log)
        assert all(gateway.ask("status")["ok"] for _ in range(20))  # so often the parent has looked since
        assert gateway.log.count(report) == 1
        os.kill(before[0], signal.SIGCONT)
        until(lambda: gateway.serving() == before)
        gateway.write(process={**process, "replace_stuck": True})
        assert gateway.ask("reload")["ok"]
        victim = gateway.serving()[0]
        os.kill(victim, signal.SIGSTOP)
        gateway.replaced(victim)
        assert gateway.counts()["hxp_gateway_worker_stuck_total", ()] >= 2


async def test_workers_that_are_late_are_not_waited_for(backend: Any, tmp_path: Path) -> None:
    """An old worker that does not end is killed; another restart meanwhile is refused; new ones that do not come up in
    their time leave everything as it is.
    """
    process = {"control": str(tmp_path / "control"), "drain_s": 0.2}
    with served(tmp_path, backend.url, process=process) as gateway:
        before = gateway.serving()
        os.kill(before[0], signal.SIGSTOP)
        first = asyncio.create_task(asyncio.to_thread(gateway.ask, "restart"))
        await asyncio.to_thread(until, lambda: "2 workers serve, 2 end" in gateway.log)
        second = await asyncio.to_thread(gateway.ask, "restart")
        assert second == {"ok": False, "error": "a rolling restart is under way"}
        assert (await first)["ok"]
        assert f"worker {before[0]} has not ended in its time and is killed" in gateway.log
        now = gateway.serving()
        gateway.write(process={**process, "ready_s": 0.001})
        assert "the new workers do not serve after 0.001 s" in gateway.ask("reload")["error"]
        assert gateway.serving() == now


def test_a_log_that_nobody_reads_stops_nobody(backend: Any, tmp_path: Path) -> None:
    """With its log's pipe full the gateway goes on serving and being restarted, and counts the lines that it drops."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    process = {"control": str(tmp_path / "control"), "log_lines": 20}
    with served(tmp_path, backend.url, process=process, log=writer) as gateway:
        os.close(writer)
        with gateway.client() as client:
            for _ in range(100):
                assert client.post("/v1/chat/completions", json=CHAT).status_code == 200
        assert gateway.counts()["hxp_gateway_log_lines_dropped_total", ()] > 0
        assert gateway.ask("restart")["ok"]
        assert gateway.post(CHAT).status_code == 200
    os.close(reader)


def test_four_workers_are_small_and_their_metrics_have_a_door(backend: Any, tmp_path: Path) -> None:
    """A worker that has served costs no more than 80 MB, what it shares counted by its share. With a port of their own
    the metrics are there alone; with a key nobody reads them without it.
    """
    (tmp_path / "key").write_text("key-of-prometheus")
    door = {"port": 0, "key": {"file": str(tmp_path / "key")}}
    with served(tmp_path, backend.url, metrics=door, workers=4) as gateway:
        with gateway.client() as client:
            for _ in range(200):
                assert client.post("/v1/chat/completions", json=CHAT).status_code == 200
            assert client.get("/metrics").status_code == 404
        sizes = [_pss_bytes(pid) for pid in gateway.serving()]
        assert len(sizes) == 4
        assert max(sizes) < 80e6
        url = next(word for word in gateway.log.split('"') if "/metrics" in word).split(" at ")[1]
        for given in ("", "Bearer key-of-nobody", "key-of-prometheus", f"Bearer {KEY}"):
            assert httpx.get(url, headers={"authorization": given}, trust_env=False).status_code == 401
        page = httpx.get(url, headers={"authorization": "Bearer key-of-prometheus"}, trust_env=False)
        assert page.status_code == 200
        assert "hxp_gateway_workers 4.0" in page.text


def _pss_bytes(pid: int) -> int:
    rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(row.split()[1]) * 1024 for row in rows if row.startswith("Pss:"))
