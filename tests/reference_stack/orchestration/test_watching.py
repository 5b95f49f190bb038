"""`hxp-stack status --watch`: what changes shows, until the stack ends or somebody stops it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from fastapi import FastAPI

from reference_stack.orchestration import state as states
from reference_stack.orchestration.watching import page
from tests.reference_stack.infrastructure.conftest import serving

WATCH = [sys.executable, "-m", "reference_stack", "status", "--watch", "--folder"]


def a_state(url: str) -> states.StackState:
    return states.StackState(1, 0.0, "ready", {"monitoring": "ready"}, {"monitoring": {"health_url": f"{url}/health"}})


def test_health_and_alerts_stand_below_the_table() -> None:
    """What ails a service and what fires is told; what is well is not."""
    app = FastAPI()

    @app.get("/status")
    async def status() -> dict[str, object]:
        down = {"name": "cache", "state": "unready", "problem": "redis: out"}
        firing = {"name": "ServiceDown", "summary": "cache is down", "firing": True, "silenced": True}
        return {
            "services": [down, {"name": "storage", "state": "ready", "problem": ""}],
            "alerts": [firing, {**firing, "name": "Waits", "firing": False}],
        }

    with serving(app) as url:
        lines = page(a_state(url)).splitlines()

    assert lines[1].startswith("monitoring  ready")
    assert lines[2:] == ["unready: cache: redis: out", "alert: ServiceDown: cache is down (silenced)"]


def test_a_monitoring_that_is_away_is_told() -> None:
    """The table shows without monitoring, and says so; a stack without monitoring has the table alone."""
    assert "down: monitoring: cannot be asked" in page(a_state("http://127.0.0.1:1"))
    assert page(states.StackState(1, 0.0, "ready", {"cache": "ready"})).splitlines()[1:] == ["cache  ready"]


def test_nothing_to_watch_is_said(tmp_path: Path) -> None:
    """Where nothing runs the command ends with 5."""
    done = subprocess.run([*WATCH, str(tmp_path)], capture_output=True, text=True, timeout=20, check=False)

    assert (done.returncode, done.stdout) == (5, f"nothing runs in {tmp_path}\n")


def hxp_stack(*words: str) -> int:
    """Run `hxp-stack` to its end; return its exit code."""
    argv = [sys.executable, "-m", "reference_stack", *words]
    return subprocess.run(argv, capture_output=True, timeout=60, check=False).returncode


@pytest.fixture
def storage(room: Path) -> Iterator[Path]:
    """The folder of a stack of one service; whatever runs there is stopped in the end."""
    assert hxp_stack("up", "--only", "storage", "--ports", "free", "--mock", "--folder", str(room)) == 0
    yield room
    hxp_stack("down", "--folder", str(room))


def test_changes_show_until_the_stack_ends(storage: Path) -> None:
    """A killed service is told, and that it was started again; when the stack is stopped, the watch ends with 5."""
    with subprocess.Popen([*WATCH, str(storage)], stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert any("storage  ready" in line for line in watching.stdout)
        state = states.read(storage)
        assert state is not None
        psutil.Process(int(str(state.services["storage"]["pid"]))).kill()
        assert any("storage ended by itself once (last: SIGKILL), started again" in line for line in watching.stdout)
        assert hxp_stack("down", "--folder", str(storage)) == 0
        assert watching.stdout.read().endswith(f"nothing runs in {storage}\n")
        assert watching.wait(10) == 5


def test_a_reader_that_has_seen_enough_ends_it_quietly(storage: Path) -> None:
    """With its pipe closed the watch ends with 0 and no traceback."""
    with subprocess.Popen(
        [*WATCH, str(storage)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as watching:
        assert watching.stdout is not None
        assert watching.stderr is not None
        watching.stdout.readline()
        watching.stdout.close()
        state = states.read(storage)
        assert state is not None
        psutil.Process(int(str(state.services["storage"]["pid"]))).kill()
        assert watching.wait(20) == 0
        assert watching.stderr.read() == ""
