"""What faults of the backing servers cost, and how fast callers recover: `python benchmarks/backing_faults.py`.

Prints one line a fault. Real servers of this checkout on 127.0.0.1; the machine is shared, so nothing here is a test.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil

from reference_stack.orchestration import ports
from reference_stack.orchestration.process import bound
from reference_stack.schemas.api.usage import UsageRow
from reference_stack.schemas.common.program import Program
from reference_stack.schemas.configuration.cache import CacheSettings
from reference_stack.schemas.configuration.database import DatabaseSettings
from reference_stack.schemas.configuration.metrics import MetricsSettings
from reference_stack.schemas.configuration.vector_database import VectorDatabaseSettings
from reference_stack.services.integration.cache import embedded as valkey
from reference_stack.services.integration.cache.client import connect
from reference_stack.services.integration.cache.port import Unavailable as NoCache
from reference_stack.services.integration.database.embedded import EmbeddedPostgres
from reference_stack.services.integration.database.port import Unavailable as NoDatabase
from reference_stack.services.integration.database.postgres import PostgresDatabase
from reference_stack.services.integration.metrics import embedded as prometheus
from reference_stack.services.integration.metrics.client import PrometheusMetrics
from reference_stack.services.integration.vector_database.client import connect as vector_client
from reference_stack.services.integration.vector_database.port import VectorDatabase

CACHE = Path(".hxp/cache").absolute()
BATCH = 25
RATE_RPS, CALLS = 300, 900
ALWAYS = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
Ping = Callable[[], Awaitable[str]]


def start(program: Program) -> subprocess.Popen[bytes]:
    null = subprocess.DEVNULL
    return subprocess.Popen(
        bound(program.argv, os.getpid()),
        stdout=null,
        stderr=null,
        user=program.user_id,
        env={**os.environ, **program.environment},
    )


async def until_served_s(ping: Ping) -> float:
    began = time.monotonic()
    while await ping():  # noqa: ASYNC110 - the server tells nobody
        await asyncio.sleep(0.005)
    return time.monotonic() - began


def crash(server: subprocess.Popen[bytes], number: int) -> None:
    family = psutil.Process(server.pid).children(recursive=True)
    server.send_signal(number)
    server.wait()
    psutil.wait_procs(family, 30)


def show(fault: str, recoveries_s: Sequence[float], more: str) -> None:
    print(f"{fault:<44}{statistics.median(recoveries_s):>9.3f}{max(recoveries_s):>9.3f}  {more}", flush=True)


async def database(folder: Path, port: int, crashes: int) -> None:
    settings = DatabaseSettings(port=port, acquire_s=1.0, command_s=1.0, connect_s=1.0)
    program = EmbeddedPostgres(settings, folder, CACHE).prepare()
    server, store = start(program), PostgresDatabase(settings)
    await until_served_s(store.ping)
    acknowledged: list[str] = []
    stop = asyncio.Event()

    async def write(writer: int) -> None:
        number = 0
        while not stop.is_set():
            names = [f"w{writer}-{number + index:08}" for index in range(BATCH)]
            rows = [
                UsageRow(name, "", "k", "t", "phi3", "chat", "complete", 200, True, 1, 1, True, 1.7e9, 0.1)
                for name in names
            ]
            while True:
                with contextlib.suppress(NoDatabase):
                    await store.usage.add(rows)
                    break
                await asyncio.sleep(0.01)
            acknowledged.extend(names)
            number += BATCH

    writers = [asyncio.create_task(write(writer)) for writer in range(4)]
    for name, number in (("SIGKILL", signal.SIGKILL), ("immediate shutdown", signal.SIGQUIT)):
        recoveries_s = []
        for _ in range(crashes // 2):
            goal = len(acknowledged) + 500
            while len(acknowledged) < goal:  # noqa: ASYNC110 - the writers count
                await asyncio.sleep(0.005)
            await asyncio.to_thread(crash, server, number)
            server = start(program)
            recoveries_s.append(await until_served_s(store.ping))
        show(f"PostgreSQL, {name}, {crashes // 2} times", recoveries_s, "server's own start included")
    stop.set()
    await asyncio.gather(*writers)
    stored = await store.usage.request_ids(*ALWAYS)
    lost, doubled = len(set(acknowledged) - set(stored)), len(stored) - len(set(stored))
    print(f"  rows acknowledged {len(acknowledged)}, lost {lost}, twice {doubled}", flush=True)
    recoveries_s = []
    for _ in range(5):
        frozen = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
        for process in frozen:
            process.suspend()
        await store.ping()
        for process in frozen:
            process.resume()
        recoveries_s.append(await until_served_s(store.ping))
    show("PostgreSQL, hung (SIGSTOP), 5 times", recoveries_s, "from SIGCONT")
    await store.close()
    server.send_signal(signal.SIGINT)
    server.wait()


async def cache(folder: Path, port: int) -> None:
    settings = CacheSettings(port=port, command_s=0.02, connect_s=0.02)
    program = valkey.program(settings, folder)
    server, store = start(program), connect(settings)
    await until_served_s(store.ping)

    async def p99_ms() -> float:
        begun = asyncio.get_running_loop().time()

        async def one(index: int) -> float:
            await asyncio.sleep(begun + index / RATE_RPS - asyncio.get_running_loop().time())
            began = time.perf_counter()
            with contextlib.suppress(NoCache):
                await store.get("a")
            return time.perf_counter() - began

        costs = sorted(await asyncio.gather(*(one(index) for index in range(CALLS))))
        return 1000 * costs[int(0.99 * CALLS)]

    async def served() -> str:
        try:
            await store.get("a")
        except NoCache as error:
            return error.message
        return ""

    for name, number in (("hung (SIGSTOP)", signal.SIGSTOP), ("down (SIGKILL)", signal.SIGKILL)):
        usual_ms = await p99_ms()
        server.send_signal(number)
        during_ms = await p99_ms()
        if number == signal.SIGKILL:
            server.wait()
            server = start(program)
        else:
            server.send_signal(signal.SIGCONT)
        recovery_s = await until_served_s(served)
        show(f"Valkey, {name}", [recovery_s], f"p99 of a call {usual_ms:.2f} ms before, {during_ms:.2f} ms during")
    await store.close()
    server.terminate()
    server.wait()


async def others(folder: Path, reserved: Sequence[int]) -> None:
    """The vector store as a process of its own, and Prometheus where there is one."""
    rest, grpc, face, port = reserved
    said = (f"port={rest}", f"grpc_port={grpc}", f"folder={folder / 'vectors'}")
    words = ("-m", "reference_stack", "serve", "vector_database", "--port", str(face))
    vectors = Program((sys.executable, *words, *(part for each in said for part in ("--set", each))))
    settings = VectorDatabaseSettings(backend="external", port=rest, grpc_port=grpc, timeout_s=1)
    await hurt("vector store", vectors, vector_client(settings))
    binary = prometheus.find(CACHE)
    if binary is not None:
        program = prometheus.EmbeddedPrometheus(binary, folder).prepare(port, {})
        await hurt("Prometheus", program, PrometheusMetrics(MetricsSettings(prometheus_port=port, timeout_s=1)))


async def hurt(name: str, program: Program, client: VectorDatabase | PrometheusMetrics) -> None:
    """Kill the server and start it again, then freeze it and let it go on."""
    server = start(program)
    await until_served_s(client.ping)
    recoveries_s = []
    for _ in range(3):
        await asyncio.to_thread(crash, server, signal.SIGKILL)
        server = start(program)
        recoveries_s.append(await until_served_s(client.ping))
    show(f"{name}, SIGKILL, 3 times", recoveries_s, "server's own start included")
    recoveries_s, costs_s = [], []
    for _ in range(3):
        server.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        await client.ping()
        costs_s.append(time.monotonic() - began)
        server.send_signal(signal.SIGCONT)
        recoveries_s.append(await until_served_s(client.ping))
    show(f"{name}, hung (SIGSTOP), 3 times", recoveries_s, f"from SIGCONT; a call cost {max(costs_s):.2f} s of 1 s")
    await client.close()
    server.terminate()
    server.wait()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crashes", type=int, default=20)
    crashes = parser.parse_args().crashes
    print(f"{'fault':<44}{'median s':>9}{'max s':>9}")
    reservations = [ports.reserve() for _ in range(6)]
    with tempfile.TemporaryDirectory() as scratch:
        await cache(Path(scratch), reservations[0].port)
        await database(Path(scratch), reservations[1].port, crashes)
        await others(Path(scratch), [each.port for each in reservations[2:]])


if __name__ == "__main__":
    asyncio.run(main())
