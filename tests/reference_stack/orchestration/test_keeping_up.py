"""What ends by itself and is leaned on is started again: the rule, the supervisor, and `up` with its real servers."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import operator
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qdrant_client import QdrantClient, models

from reference_stack.errors import StackError
from reference_stack.orchestration import ports
from reference_stack.orchestration import state as states
from reference_stack.orchestration.keeping_up import KeepingUp
from reference_stack.orchestration.process import Process
from reference_stack.orchestration.supervisor import State, Supervisor, Unit
from reference_stack.schemas.common.program import Program

Eventually = Callable[[Callable[[], object]], Awaitable[None]]
Until = Callable[[Callable[[], object]], None]
SERVERS = ("postgres", "valkey", "prometheus", "vector_database")
BACK_S = 120  # four programs start at once, on a machine that may be busy
FOUR = [word for name in ("database", "cache", "metrics", "vector_database") for word in ("--only", name)]


@given(st.lists(st.floats(0, 60), max_size=40))
def test_the_rule_is_bounded_and_forgives(served_s: list[float]) -> None:
    """Nine ends in a row within ten seconds each are the last; one long service in between begins the count anew."""
    rule = KeepingUp()
    in_a_row = 0
    for ends, seconds in enumerate(served_s, 1):
        in_a_row = in_a_row + 1 if seconds < 10 else 0
        pause_s = rule.pause_s(seconds, "SIGKILL")
        assert (pause_s is None) == rule.gave_up == (in_a_row >= 9)
        assert pause_s is None or 0 <= pause_s <= 5
        assert ("once" if ends == 1 else f"{ends} times") in rule.told(serves=True)
        if rule.gave_up:
            assert rule.told(serves=True).endswith("left down")
            return


async def test_who_is_kept_up_serves_again_and_is_told(
    eventually: Eventually, server: Unit, room: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A killed server runs again under a new pid on its port; two ends are told, each with one line when it goes and
    one when it is back.
    """
    supervisor = Supervisor([replace(server, kept_up=True)], room)
    await supervisor.start()
    try:
        with caplog.at_level(logging.WARNING):
            for times in ("once", "2 times"):
                before = supervisor.process("server").pid
                os.kill(before, signal.SIGKILL)
                told = {"server": f"ended by itself {times} (last: SIGKILL), started again"}
                await eventually(functools.partial(operator.eq, supervisor.told, told))
                assert supervisor.states["server"] is State.READY
                assert supervisor.process("server").pid != before
                assert await server.probe() == ""
                await eventually(lambda: "serves again" in caplog.messages[-1])
        assert [message.split(" (")[0].split(" after")[0] for message in caplog.messages] == [
            "server ended by itself",
            "server serves again",
        ] * 2
    finally:
        await supervisor.stop()
    assert supervisor.states["server"] is State.STOPPED


async def test_who_ends_again_and_again_is_left_down(
    eventually: Eventually, server: Unit, room: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that does not come up any more is given up after its last try, with its reason, and said once."""
    once = room / "started"
    script = f"import pathlib; pathlib.Path({str(once)!r}).open('x')\n{server.program.argv[2]}"
    program = Program((sys.executable, "-c", script))
    rule = functools.partial(KeepingUp, most=3)
    supervisor = Supervisor([replace(server, kept_up=True, program=program)], room, keeping_up=rule)
    await supervisor.start()
    os.kill(supervisor.process("server").pid, signal.SIGKILL)
    await eventually(lambda: supervisor.told.get("server", "").endswith("left down"))
    assert supervisor.told["server"].startswith("ended by itself 3 times (last: it ended (exit 1")
    await eventually(lambda: any("is left down" in message for message in caplog.messages))
    assert len(caplog.messages) == 2
    assert supervisor.states["server"] is State.DOWN
    await supervisor.stop()


async def test_a_restart_in_the_middle_of_a_start_leaves_one_process(server: Unit, room: Path) -> None:
    """Who is told to restart while it is being started again ends what was being started first."""
    starting = asyncio.Event()
    supervisor = Supervisor([replace(server, kept_up=True)], room, lambda _, state, __: _tell(state, starting))
    await supervisor.start()
    try:
        starting.clear()
        supervisor.kill("server")
        await starting.wait()  # its launch has begun, and nobody has its process yet
        await supervisor.restart("server")

        argv = list(server.program.argv)
        alive = [child for child in psutil.Process().children() if child.cmdline()[: len(argv)] == argv]
        assert [child.pid for child in alive] == [supervisor.process("server").pid]
        assert await server.probe() == ""
    finally:
        await supervisor.stop()


def _tell(state: State, starting: asyncio.Event) -> None:
    if state is State.STARTING:
        starting.set()


class Hesitates(Supervisor):
    """Starts a unit once; a second start waits for `go`, and fails."""

    asked: asyncio.Event
    go: asyncio.Event

    async def _launch(self, unit: Unit) -> Process:
        if unit.name not in self._processes:
            return await super()._launch(unit)
        self.asked.set()
        await self.go.wait()
        raise StackError("it cannot be started")


async def test_a_stop_in_the_middle_of_a_start_that_fails_is_a_stop(server: Unit, room: Path) -> None:
    """A start that fails just when everything is to stop is not tried again."""
    supervisor = Hesitates([replace(server, kept_up=True)], room, keeping_up=functools.partial(KeepingUp, most=10_000))
    supervisor.asked, supervisor.go = asyncio.Event(), asyncio.Event()
    await supervisor.start()
    supervisor.kill("server")
    await supervisor.asked.wait()
    stopping = asyncio.create_task(supervisor.stop())
    for _ in range(5):
        await asyncio.sleep(0)  # it has told the start to end
    supervisor.go.set()

    async with asyncio.timeout(20):
        await stopping
    assert supervisor.states["server"] is State.STOPPED


async def test_a_port_that_somebody_took_is_the_reason(
    eventually: Eventually, until: Until, server: Unit, port: int, room: Path
) -> None:
    """What cannot even be launched again is told with its reason, and a stop in the middle of the trying ends it."""
    supervisor = Supervisor([replace(server, kept_up=True)], room)
    await supervisor.start()
    with contextlib.ExitStack() as stack:

        def take() -> bool:
            with contextlib.suppress(OSError):
                stack.enter_context(ports.listen(port))
                return True
            return False

        os.kill(supervisor.process("server").pid, signal.SIGKILL)
        until(take)  # before the supervisor, whose loop this holds up, hears of the end
        await eventually(lambda: f"port {port} is taken" in supervisor.told.get("server", ""))
        await supervisor.stop()
    assert supervisor.states["server"] is State.STOPPED


def hxp_stack(*words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "reference_stack", *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def four(room: Path) -> Iterator[Path]:
    """The folder of a stack of the four services that lean on a server."""
    started = hxp_stack("up", *FOUR, "--ports", "free", "--folder", str(room))
    assert started.returncode == 0, started.stderr
    yield room
    hxp_stack("down", "--folder", str(room))


def within(limit_s: float, condition: Callable[[], object]) -> None:
    """Wait until `condition` holds."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)  # polls a condition, with a deadline


def test_killed_servers_come_back_with_their_data(four: Path) -> None:
    """PostgreSQL, Valkey, Prometheus and the vector store, killed by pid under `up`: all serve again by themselves with
    new pids; rows and points are still there; status tells it, exit 0.
    """
    state = states.read(four)
    assert state is not None
    servers = [name for name in SERVERS if name in state.units]  # Prometheus, where this machine has one
    assert {"postgres", "valkey", "vector_database"} <= set(servers)
    database = httpx.Client(base_url=str(state.services["database"]["health_url"]).removesuffix("/health"), timeout=30)
    at = "2026-01-01T00:00:00Z"
    run = {"id": "kept", "started": at, "service": "phi3", "profile": "phi3", "evidence": "tiny"}
    stored = database.put("/v1/runs/kept", json={"run": run, "verdict": {"outcome": "PASS", "judged": at}})
    assert stored.status_code == 204, stored.text
    vectors = QdrantClient(url=str(state.services["vector_database"]["url"]), timeout=30, check_compatibility=False)
    size = models.VectorParams(size=2, distance=models.Distance.DOT)
    vectors.create_collection("kept", vectors_config=size)
    vectors.upsert("kept", [models.PointStruct(id=1, vector=[1.0, 0.0])], wait=True)

    for name in servers:
        os.kill(state.pids[name], signal.SIGKILL)

    def all_back() -> bool:
        now = states.read(four)
        assert now is not None
        back = now.ended.keys() == set(servers) and all(told.endswith("again") for told in now.ended.values())
        return back and "being" not in "".join(now.ended.values()) and set(now.units.values()) == {"ready"}

    within(BACK_S, all_back)
    shown = hxp_stack("status", "--folder", str(four), "--json")
    row = json.loads(shown.stdout)
    assert shown.returncode == 0
    assert all(row["pids"][name] != state.pids[name] for name in servers)
    assert row["services"]["vector_database"]["pid"] == row["pids"]["vector_database"]
    within(BACK_S, lambda: database.get("/v1/runs/kept").status_code == 200)
    assert vectors.count("kept").count == 1
    database.close()
    vectors.close()
