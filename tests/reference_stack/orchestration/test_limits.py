"""Promises of the limits: real processes that look at their cores and reach for more memory than is theirs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_stack.errors import NotReady, SettingsError
from reference_stack.orchestration import cgroup, readiness
from reference_stack.orchestration.deployment.room import Room
from reference_stack.orchestration.deployment.want import Want
from reference_stack.orchestration.limits import Holds, cores_of
from reference_stack.orchestration.process import Process
from reference_stack.orchestration.state import read
from reference_stack.orchestration.supervisor import Supervisor, Unit
from reference_stack.schemas.common.limits import FREE, Hold, Limits
from reference_stack.schemas.common.program import Program

Eventually = Callable[[Callable[[], object]], Awaitable[None]]
MIB = 2**20
# Says where it may run and what it may have, then reaches for 256 MiB and touches each page.
GREEDY = """
import os, resource
print(sorted(os.sched_getaffinity(0)), resource.getrlimit(resource.RLIMIT_DATA)[0], flush=True)
held = b"x" * (256 * 2**20)
print("had it", flush=True)
"""
HXP_STACK = (sys.executable, "-m", "reference_stack")
COUNTS = st.lists(st.integers(0, 70), min_size=1, max_size=6)


@given(counts=COUNTS, machine=st.integers(1, 64))
def test_cores_are_given_out_in_turn(counts: list[int], machine: int) -> None:
    """Each unit gets what it asks for, never more than there are; none is shared before all are given out."""
    available = [core * 2 for core in range(machine)]
    limits = {str(i): Limits(count or None) for i, count in enumerate(counts)}
    found = cores_of(limits, available)
    assert [len(found[name]) for name in limits] == [min(count, machine) for count in counts]
    assert all(len(set(cores)) == len(cores) and set(cores) <= set(available) for cores in found.values())
    given_out = [core for cores in found.values() for core in cores]
    assert len(set(given_out)) == min(len(given_out), machine)


def hold_of(limits: Limits, hierarchy: cgroup.Hierarchy | None) -> Hold:
    return Holds({"unit": limits}, hierarchy).of("unit")


def test_what_cannot_be_enforced_is_said(tmp_path: Path) -> None:
    """The words name the cores that there are, the way in which memory is held, and what is not held at all."""
    many = len(os.sched_getaffinity(0)) + 6
    words = {
        (None, True): f"cores {many - 6} of {many} asked, memory 4 GB a process by RLIMIT_DATA",
        (None, False): f"cores {many - 6} of {many} asked, memory 4 GB not enforced: no cgroup can be made here",
        (cgroup.Hierarchy(tmp_path, 2), False): f"cores {many - 6} of {many} asked, memory 4 GB by cgroup v2",
    }
    for (hierarchy, by_rlimit), expected in words.items():
        assert hold_of(Limits(many, 4_000_000_000, by_rlimit), hierarchy).shown == expected
    assert hold_of(Limits(), None) == FREE
    assert hold_of(Limits(1), None).shown == "cores 1"


async def output(hold: Hold, folder: Path) -> tuple[str, str]:
    """Run the greedy program under `hold`; return how it ended and what it said."""
    process = await Process.start("greedy", Program((sys.executable, "-c", GREEDY)), folder / "log", hold=hold)
    await process.wait()
    return process.exit_status, process.log_tail()


async def test_a_process_runs_on_its_cores(tmp_path: Path) -> None:
    """A process that is held to one core reads back that one, and without a hold all."""
    available = sorted(os.sched_getaffinity(0))
    hold = hold_of(Limits(1), None)
    assert (await output(hold, tmp_path))[1].startswith(f"[{available[0]}] ")
    (tmp_path / "log").unlink()
    assert (await output(FREE, tmp_path))[1].startswith(f"{available} ")


@pytest.mark.parametrize(("limit_bytes", "status"), [(128 * MIB, "exit 1"), (512 * MIB, "exit 0")])
async def test_a_process_over_its_rlimit_is_refused(tmp_path: Path, limit_bytes: int, status: str) -> None:
    """Under RLIMIT_DATA a process that asks for more gets a MemoryError, and one that asks for less does not."""
    ended, said = await output(hold_of(Limits(None, limit_bytes), None), tmp_path)
    assert ended == status
    assert f" {limit_bytes}" in said
    assert ("MemoryError" in said, "had it" in said) == (status == "exit 1", status == "exit 0")


@pytest.fixture
def hierarchy() -> cgroup.Hierarchy:
    """The machine's own."""
    found = cgroup.find()
    if found is None:
        pytest.skip("no cgroup can be made here: that needs root, or a delegated cgroup")
    return found


def ours(hierarchy: cgroup.Hierarchy, pid: int) -> list[Path]:
    return list(hierarchy.folder.glob(f"hxp-{pid}-*"))


async def test_a_unit_over_its_memory_is_killed_and_says_so(hierarchy: cgroup.Hierarchy, room: Path) -> None:
    """A unit that outgrows its cgroup is killed by the kernel, its error names the limit, and no cgroup is left."""
    unit = Unit(
        "greedy",
        Program((sys.executable, "-c", GREEDY)),
        readiness.http("http://127.0.0.1:9/"),
        limits=Limits(1, 64 * MIB),
    )
    with pytest.raises(NotReady, match=r"it ended \(SIGKILL, over its memory limit of 0\.067\d* GB\)"):
        await Supervisor([unit], room).start()
    assert "had it" not in (room / "greedy.log").read_text()
    assert ours(hierarchy, os.getpid()) == []


async def test_a_cgroup_that_cannot_be_entered_stops_the_start(tmp_path: Path) -> None:
    """A program is never run outside the limits that it should have."""
    ended, said = await output(Hold(cgroup=tmp_path / "gone"), tmp_path)
    assert ended == "exit 2"
    assert "cgroup.procs" in said
    assert "had it" not in said


async def test_a_second_life_has_limits_too(hierarchy: cgroup.Hierarchy, server: Unit, room: Path) -> None:
    """A unit that is restarted is held again, in a cgroup whose only processes are its own."""
    unit = Unit("server", server.program, server.probe, listen_port=server.listen_port, limits=Limits(1, 512 * MIB))
    supervisor = Supervisor([unit], room)
    await supervisor.start()
    try:
        for _ in range(2):
            (made,) = ours(hierarchy, os.getpid())
            assert (made / "cgroup.procs").read_text().split() == [str(supervisor.process("server").pid)]
            await supervisor.restart("server")
    finally:
        await supervisor.stop()
    assert ours(hierarchy, os.getpid()) == []


def hxp_stack(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*HXP_STACK, *words], capture_output=True, text=True, timeout=60, check=False)


def limits_of(folder: Path) -> Mapping[str, object]:
    row: Mapping[str, object] = json.loads(hxp_stack("status", "--folder", str(folder), "--json").stdout)["services"]
    return row


async def test_a_stack_shows_its_limits_and_leaves_none_behind(room: Path, eventually: Eventually) -> None:
    """A simulated model is held as its row says, in status and in its facts; a killed supervisor's cgroups go next."""
    up = ("up", "--only", "phi3", "--ports", "free", "--folder", str(room))
    assert hxp_stack(*up).returncode == 0
    state = read(room)
    assert state is not None
    row = state.services["phi3"]
    limits = str(row["limits"])
    hierarchy = cgroup.find()
    by = "a process by RLIMIT_DATA" if hierarchy is None else f"by cgroup v{hierarchy.version}"
    assert limits.endswith(f", memory 4 GB {by}")
    assert row["facts"]["limits"] == limits  # type: ignore[index]  # JSON
    assert limits in hxp_stack("status", "--folder", str(room)).stdout
    affinity = len(os.sched_getaffinity(int(str(row["pid"]))))
    assert affinity == min(2, len(os.sched_getaffinity(0)))
    os.kill(state.pid, signal.SIGKILL)
    await eventually(lambda: not state.alive and not psutil.pid_exists(int(str(row["pid"]))))
    if hierarchy is not None:
        assert len(ours(hierarchy, state.pid)) == 1
    assert hxp_stack(*up).returncode == 0
    assert hierarchy is None or ours(hierarchy, state.pid) == []
    again = read(room)
    assert again is not None
    await asyncio.to_thread(hxp_stack, "down", "--folder", str(room))
    assert hierarchy is None or ours(hierarchy, again.pid) == []


def test_limits_can_be_switched_off(room: Path) -> None:
    """With limits=off nothing is held, and a word that is neither is refused."""

    def want(value: str) -> Want:
        return Want(folder=room, cache=room, services=("phi3",), ports="free", options={"limits": value})

    assert Room(want("off")).limits("phi3") == Limits()
    assert Room(want("on")).limits("phi3") == Limits(2, 4_000_000_000)
    with pytest.raises(SettingsError, match="limits=no is neither"):
        want("no")
