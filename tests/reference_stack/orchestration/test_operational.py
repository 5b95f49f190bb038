"""Promises of `hxp-stack` to who runs it, kept with the real program."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from reference_stack.catalogue import load_catalogue
from reference_stack.orchestration.entry import argv
from reference_stack.orchestration.state import StackState, read, write

Until = Callable[[Callable[[], object]], None]
Gone = Callable[[int], bool]
HXP_STACK = (sys.executable, "-m", "reference_stack")
SMALL = ("--only", "configuration", "--ports", "free")


def hxp_stack(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*HXP_STACK, *words], capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def up(room: Path) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """`hxp-stack up` in a folder of its own; whatever runs there is stopped in the end."""

    def start(*words: str) -> subprocess.CompletedProcess[str]:
        return hxp_stack("up", "--folder", str(room), *words)

    yield start
    hxp_stack("down", "--folder", str(room))


def test_up_serves_status_shows_down_ends(
    room: Path, up: Callable[..., subprocess.CompletedProcess[str]], gone: Gone
) -> None:
    """Up returns when all serves, with a table; status shows the same; down leaves no process and no state."""
    started = up(*SMALL)
    assert started.returncode == 0, started.stderr
    assert "configuration" in started.stdout
    shown = hxp_stack("status", "--folder", str(room), "--json")
    assert shown.returncode == 0
    row = json.loads(shown.stdout)
    assert row["up"]
    assert row["units"] == {"configuration": "ready"}
    with urllib.request.urlopen(row["services"]["configuration"]["health_url"], timeout=5) as answer:
        assert json.load(answer)["service"] == "configuration"
    assert "configuration" in hxp_stack("status", "--folder", str(room)).stdout
    again = up(*SMALL)
    assert again.returncode == 0
    assert again.stdout.startswith("already up")
    pids = [row["pid"], row["services"]["configuration"]["pid"]]
    ended = hxp_stack("down", "--folder", str(room))
    assert ended.returncode == 0
    assert ended.stdout.startswith("down after")
    assert all(gone(pid) for pid in pids)
    nothing = hxp_stack("status", "--folder", str(room))
    assert (nothing.returncode, nothing.stdout.splitlines()[0]) == (5, "nothing runs here")


def test_a_killed_service_comes_back_and_is_told(
    room: Path, up: Callable[..., subprocess.CompletedProcess[str]], until: Until
) -> None:
    """A service that is killed serves again, as another process at the same place; status says what happened."""
    assert up(*SMALL).returncode == 0
    before = read(room)
    assert before is not None
    first = int(str(before.services["configuration"]["pid"]))
    os.kill(first, signal.SIGKILL)
    until(lambda: "started again" in hxp_stack("status", "--folder", str(room)).stdout)

    now = json.loads(hxp_stack("status", "--folder", str(room), "--json").stdout)
    assert now["units"] == {"configuration": "ready"}
    assert now["services"]["configuration"]["pid"] != first
    assert now["services"]["configuration"]["health_url"] == before.services["configuration"]["health_url"]
    assert httpx.get(now["services"]["configuration"]["health_url"], trust_env=False).status_code == 200


def test_a_service_that_cannot_come_back_is_shown_down(
    room: Path, up: Callable[..., subprocess.CompletedProcess[str]], until: Until
) -> None:
    """While a service is gone, status says which and exits 5."""
    assert up(*SMALL).returncode == 0
    state = read(room)
    assert state is not None
    (room / "settings" / "configuration.json").unlink()
    os.kill(int(str(state.services["configuration"]["pid"])), signal.SIGKILL)
    until(lambda: hxp_stack("status", "--folder", str(room)).returncode == 5)


def test_a_killed_supervisor_leaves_nothing_but_a_stale_file(
    room: Path, up: Callable[..., subprocess.CompletedProcess[str]], until: Until, gone: Gone
) -> None:
    """After SIGKILL of the supervisor its services are gone, status says so, and up starts afresh."""
    assert up(*SMALL).returncode == 0
    state = read(room)
    assert state is not None
    os.kill(state.pid, signal.SIGKILL)
    until(lambda: gone(int(str(state.services["configuration"]["pid"]))))
    until(lambda: not state.alive)
    shown = hxp_stack("status", "--folder", str(room))
    assert shown.returncode == 5
    assert f"its supervisor (pid {state.pid}) was killed" in shown.stdout
    assert up(*SMALL).returncode == 0


def test_down_forgets_a_stale_stack(room: Path) -> None:
    """Down after a killed supervisor cleans up and is no error."""
    room.mkdir()
    write(room, StackState(pid=os.getpid(), created=1.0))  # our pid, but not our time of birth: a reused number
    ended = hxp_stack("down", "--folder", str(room))
    assert (ended.returncode, read(room)) == (0, None)
    assert "was killed" in ended.stdout
    assert hxp_stack("down", "--folder", str(room)).stdout == "nothing runs here\n"


def test_a_taken_port_ends_up_with_its_owner_and_nothing_left(
    room: Path, up: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """A documented port that somebody has: exit 5, the port, who has it, what to type; nothing runs."""
    port = load_catalogue()["configuration"].port
    try:
        other = socket.create_server(("127.0.0.1", port))
    except OSError:
        pytest.skip(f"port {port} is taken on this machine already")
    with other:
        refused = up("--only", "configuration")
    assert refused.returncode == 5
    assert f"configuration: port {port} is taken by" in refused.stderr
    assert f"(pid {os.getpid()})" in refused.stderr
    assert "hxp-stack up --ports free" in refused.stderr
    assert read(room) is None


def test_an_unknown_service_is_a_usage_error(up: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """A misspelt name is refused with the nearest one, exit 2, before anything starts."""
    refused = up("--only", "mixtrall")
    assert refused.returncode == 2
    assert "did you mean 'mixtral'?" in refused.stderr


@pytest.mark.parametrize(
    ("words", "message"), [(("--json",), "--json needs --foreground"), (("--set", "speed"), "'speed' is not KEY=VALUE")]
)
def test_wrong_options_are_usage_errors(
    up: Callable[..., subprocess.CompletedProcess[str]], words: tuple[str, ...], message: str
) -> None:
    """Options that make no sense are refused in words, exit 2."""
    refused = up(*words)
    assert refused.returncode == 2
    assert message in refused.stderr


def test_a_setting_that_a_service_refuses_is_told(up: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """A setting that makes a service end at its start is told with the service's own words, exit 5."""
    refused = up("--only", "phi3", "--ports", "free", "--set", "speed=-1")
    assert refused.returncode == 5
    assert "phi3 did not come up" in refused.stderr
    assert "greater than 0" in refused.stderr


def test_help_is_quick() -> None:
    """`--help` imports next to nothing: no web framework, no psutil."""
    code = (
        "import sys; from reference_stack.arguments import parser; parser();"
        "print([m for m in ('fastapi', 'pydantic', 'psutil', 'asyncio', 'yaml') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "[]\n"


class Child:
    """The stack as a harness runs it."""

    def __init__(self, words: list[str]) -> None:
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def line(self) -> dict[str, object]:
        assert self.process.stdout is not None
        row: dict[str, object] = json.loads(self.process.stdout.readline())
        return row

    def end(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(20)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def child() -> Iterator[Callable[[list[str]], Child]]:
    """Starts stacks as a harness does."""
    started: list[Child] = []

    def start(words: list[str]) -> Child:
        started.append(Child(words))
        return started[-1]

    yield start
    for one in started:
        one.close()


def test_a_harness_gets_one_line_and_ends_it_with_its_input(
    room: Path, child: Callable[[list[str]], Child], gone: Gone
) -> None:
    """The command of the entry point prints what it offers, and at the end of its input stops all and exits 0."""
    stack = child(
        argv({"services": ["phi3"], "engine": "sim", "weights": "tiny", "folder": str(room), "options": {"speed": 3}})
    )
    row = stack.line()
    assert row["ready"] is True
    services = row["services"]
    assert isinstance(services, dict)
    phi3 = services["phi3"]
    assert phi3["evidence"] == "simulated"
    assert phi3["api_model"] == "phi3"
    with urllib.request.urlopen(f"{phi3['base_url']}/models", timeout=5) as answer:
        assert json.load(answer)["data"][0]["id"] == "phi3"
    began = time.monotonic()
    assert stack.end() == 0
    assert time.monotonic() - began < 10
    assert gone(phi3["pid"])
    assert read(room) is None


def test_a_harness_that_leaves_early_stops_the_start(
    room: Path, child: Callable[[list[str]], Child], until: Until
) -> None:
    """The end of input before all is ready stops what was started."""
    stack = child(argv({"services": ["database"], "folder": str(room), "mock": True}))
    until(lambda: read(room) is not None)
    assert stack.end() == 0
    assert psutil.Process().children() == [] or stack.process.pid not in [c.pid for c in psutil.Process().children()]


def test_a_harness_hears_why_not(room: Path, child: Callable[[list[str]], Child]) -> None:
    """What cannot be started is told in the one line, with a hint, and exit 5."""
    stack = child(argv({"services": ["phi3"], "folder": str(room), "options": {"speed": "no"}}))
    row = stack.line()
    assert row["ready"] is False
    assert "phi3" in str(row["error"])
    assert "phi3.log" in str(row["hint"])
    assert stack.process.wait(20) == 5


def test_the_same_folder_runs_one_stack(room: Path, child: Callable[[list[str]], Child]) -> None:
    """A second stack in the folder of a running one is refused and does not disturb it."""
    words = argv({"services": ["configuration"], "folder": str(room)})
    first = child(words)
    assert first.line()["ready"] is True
    second = child(words).line()
    assert "runs already" in str(second["error"])
    state = read(room)
    assert state is not None
    assert state.pid == first.process.pid
    assert first.end() == 0
