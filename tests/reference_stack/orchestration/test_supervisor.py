"""Promises of the supervisor, kept with real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from reference_stack.errors import NotReady, StackError
from reference_stack.orchestration import ports, readiness
from reference_stack.orchestration.supervisor import State, Supervisor, Unit
from reference_stack.schemas.common.program import Program

Until = Callable[[Callable[[], object]], None]
Eventually = Callable[[Callable[[], object]], Awaitable[None]]
Gone = Callable[[int], bool]


_SLEEPS = Program((sys.executable, "-c", "import signal; signal.pause()"))


async def _at_once() -> str:
    return ""


@asynccontextmanager
async def running(*units: Unit, folder: Path) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(units, folder)
    await supervisor.start()
    try:
        yield supervisor
    finally:
        await supervisor.stop()


async def fetch(port: int) -> int:
    def get() -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
            return int(answer.status)

    return await asyncio.to_thread(get)


async def test_what_is_started_serves_and_is_gone_after_stop(gone: Gone, server: Unit, port: int, room: Path) -> None:
    """A started unit serves; after the stop neither its process nor its listening socket is left."""
    async with running(server, folder=room) as supervisor:
        pid = supervisor.process("server").pid
        assert await fetch(port) == 200
        assert os.getpgid(pid) == pid
    assert gone(pid)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)
    assert supervisor.states == {"server": State.STOPPED}


async def test_each_unit_has_its_log(server: Unit, room: Path) -> None:
    """What a unit prints is in NAME.log of the folder."""
    async with running(server, folder=room) as supervisor:
        assert (room / "server.log").read_text() == "serving\n"
        assert supervisor.process("server").log_tail() == "serving"


async def test_a_unit_that_ends_says_why(room: Path) -> None:
    """A unit that ends before it serves is named, with its exit code and the end of its log; nothing is left."""
    program = Program((sys.executable, "-c", "print('the disk is on fire'); raise SystemExit(3)"))
    unit = Unit("broken", program, readiness.http("http://127.0.0.1:9/"))
    with pytest.raises(NotReady, match=r"broken did not come up: it ended \(exit 3\)\n.*the disk is on fire") as caught:
        await Supervisor([unit], room).start()
    assert "broken.log" in caught.value.hint


async def test_a_unit_that_never_serves_runs_into_its_deadline(room: Path) -> None:
    """A unit that runs and does not serve is given up after its time, with the probe's reason, and stopped."""
    seen: list[int] = []

    async def probe() -> str:
        seen.append(1)
        return "still thinking"

    forever = "import time; time.sleep(99)"  # lives until it is ended
    unit = Unit("slow", Program((sys.executable, "-c", forever)), probe, ready_s=0.3)
    supervisor = Supervisor([unit], room)
    with pytest.raises(NotReady, match=r"not ready after 0\.3 s: still thinking"):
        await supervisor.start()
    assert seen
    assert supervisor.states["slow"] is State.STOPPED


async def test_one_failure_stops_the_others(server: Unit, port: int, room: Path) -> None:
    """When one unit fails, those that serve already are stopped."""
    program = Program((sys.executable, "-c", "raise SystemExit(1)"))
    broken = Unit("broken", program, readiness.http("http://127.0.0.1:9/"), after=("server",))
    supervisor = Supervisor([server, broken], room)
    with pytest.raises(NotReady, match="broken"):
        await supervisor.start()
    assert supervisor.states["server"] is State.STOPPED
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


async def test_a_missing_program_is_named(room: Path) -> None:
    """A program that does not exist is an error with its path, not a traceback."""
    unit = Unit("ghost", Program(("/no/such/program",)), readiness.http("http://127.0.0.1:9/"))
    with pytest.raises(StackError, match="ghost: cannot start /no/such/program: there is no such program"):
        await Supervisor([unit], room).start()


async def test_a_unit_waits_for_its_needs(server: Unit, room: Path) -> None:
    """A unit starts only when what it comes after is ready."""
    order: list[tuple[str, State]] = []
    reservation = ports.reserve()
    later = replace(
        server,
        name="later",
        probe=readiness.http(f"http://127.0.0.1:{reservation.port}/"),
        listen_port=reservation.port,
        after=("server",),
    )
    supervisor = Supervisor([later, server], room, lambda name, state, _after_s: order.append((name, state)))
    await supervisor.start()
    await supervisor.stop()
    reservation.close()
    assert order.index(("server", State.READY)) < order.index(("later", State.STARTING))


async def test_who_is_used_stops_last(server: Unit, room: Path) -> None:
    """Each has its time to end while everything that it uses still serves; a name that is not there is passed over."""
    seen: list[tuple[str, State]] = []
    behind = replace(server, name="behind", listen_port=None, program=_SLEEPS, probe=_at_once)
    door = replace(behind, name="door", uses=("server", "elsewhere"))
    units = (behind, replace(server, uses=("behind",)), door)
    supervisor = Supervisor(units, room, lambda name, state, _: seen.append((name, state)))
    await supervisor.start()
    await supervisor.stop()
    assert [name for name, state in seen if state is State.STOPPED] == ["door", "server", "behind"]


async def test_restart_gives_a_new_process_on_the_same_port(server: Unit, port: int, room: Path) -> None:
    """A restarted unit has another pid and the same port."""
    async with running(server, folder=room) as supervisor:
        before = supervisor.process("server").pid
        await supervisor.restart("server")
        assert supervisor.process("server").pid != before
        assert await fetch(port) == 200


async def test_kill_is_noticed_and_restart_heals(eventually: Eventually, server: Unit, port: int, room: Path) -> None:
    """A killed unit is reported down at once, refuses connections, and can be restarted."""
    async with running(server, folder=room) as supervisor:
        supervisor.kill("server")
        await supervisor.process("server").wait()
        await eventually(lambda: supervisor.states["server"] is State.DOWN)
        assert supervisor.process("server").exit_status == "SIGKILL"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=1)
        await supervisor.restart("server")
        assert await fetch(port) == 200


async def test_pause_freezes_and_resume_thaws(until: Until, server: Unit, port: int, room: Path) -> None:
    """A paused unit answers nothing; resumed, it answers what was asked meanwhile."""
    async with running(server, folder=room) as supervisor:
        supervisor.pause("server")
        until(lambda: psutil.Process(supervisor.process("server").pid).status() == psutil.STATUS_STOPPED)
        asked = asyncio.create_task(fetch(port))
        done, _ = await asyncio.wait({asked}, timeout=0.2)
        assert not done
        assert supervisor.states["server"] is State.PAUSED
        supervisor.resume("server")
        assert await asked == 200


async def test_a_paused_unit_can_be_stopped(server: Unit, room: Path) -> None:
    """Stopping a paused unit needs no kill: it is resumed to hear the request."""
    async with running(server, folder=room) as supervisor:
        process = supervisor.process("server")
        supervisor.pause("server")
    assert process.exit_status == "SIGTERM"


async def test_who_ignores_the_polite_signal_is_killed_with_family(until: Until, gone: Gone, room: Path) -> None:
    """What does not stop in its grace is killed, and so are the children it has."""
    script = """
        import signal, subprocess, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(99)"]).pid, flush=True)  # until killed
        time.sleep(99)  # until it is killed
    """
    log = room / "stubborn.log"

    async def probe() -> str:
        return "" if log.read_text() else "no child yet"

    program = Program((sys.executable, "-c", textwrap.dedent(script)))
    supervisor = Supervisor([Unit("stubborn", program, probe, grace_s=0.1)], room)
    await supervisor.start()
    parent, child = supervisor.process("stubborn"), int(log.read_text())
    await supervisor.stop()
    assert parent.exit_status == "SIGKILL"
    until(lambda: gone(child))


async def test_an_unknown_name_gets_the_nearest_one(server: Unit, room: Path) -> None:
    """Asking for a process that does not exist names the one that was meant."""
    async with running(server, folder=room) as supervisor:
        with pytest.raises(StackError) as caught:
            supervisor.kill("sever")
    assert caught.value.hint == "did you mean 'server'?"


async def test_a_cancelled_start_leaves_nothing(eventually: Eventually, gone: Gone, server: Unit, room: Path) -> None:
    """Cancelling the start stops what was started so far."""

    async def probe() -> str:
        return "never"

    supervisor = Supervisor([replace(server, probe=probe)], room)
    starting = asyncio.create_task(supervisor.start())
    await eventually(lambda: (room / "server.log").exists() and (room / "server.log").read_text())
    pids = [child.pid for child in psutil.Process().children() if server.program.argv[2] in child.cmdline()]
    assert pids
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert all(gone(pid) for pid in pids)


async def test_a_port_taken_at_start_is_named(server: Unit, port: int, room: Path) -> None:
    """A listening port that somebody took is named with its owner."""
    with ports.listen(port), pytest.raises(NotReady, match=rf"server: port {port} is taken by .*pid {os.getpid()}"):
        await Supervisor([server], room).start()


def test_children_die_with_a_killed_supervisor(
    until: Until, gone: Gone, server_script: str, tmp_path: Path, port: int
) -> None:
    """SIGKILL of the supervising process takes every child along, so that nothing is orphaned."""
    script = f"""
        import asyncio, sys
        from pathlib import Path
        from reference_stack.orchestration import readiness
        from reference_stack.orchestration.supervisor import Supervisor, Unit
        from reference_stack.schemas.common.program import Program

        async def main():
            program = Program((sys.executable, "-c", {server_script!r}))
            unit = Unit("server", program, readiness.http("http://127.0.0.1:{port}/"), listen_port={port})
            supervisor = Supervisor([unit], Path({str(tmp_path)!r}))
            await supervisor.start()
            print(supervisor.process("server").pid, flush=True)
            await asyncio.sleep(99)

        asyncio.run(main())
    """
    argv = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        child = int(supervisor.stdout.readline())
        assert not gone(child)
        supervisor.send_signal(signal.SIGKILL)
    until(lambda: gone(child))
