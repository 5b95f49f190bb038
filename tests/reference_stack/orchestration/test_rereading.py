"""A running stack takes a changed configuration, the whole of it or nothing, and its command says which."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from reference_stack.__main__ import main
from reference_stack.orchestration import state as states

SETTINGS = "storage:\n  runs: {}\n  least_free_bytes: {}\n"
Until = Callable[[Callable[[], object]], None]


@pytest.fixture
def stack(room: Path, tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A stack of two services on free ports with a host file; yields its folder and that file."""
    host = tmp_path / "host.yaml"
    host.write_text(SETTINGS.format(tmp_path, 0))
    words = ("up", "--foreground", "--only", "storage", "--only", "configuration", "--ports", "free")
    argv = [sys.executable, "-m", "reference_stack", *words, "--folder", str(room), "--host-file", str(host)]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path) as supervisor:
        try:
            ends = time.monotonic() + 60  # a loaded machine takes its time
            while _phase(room) != "ready":
                assert supervisor.poll() is None
                assert time.monotonic() < ends
                time.sleep(0.02)  # polls a condition, with a deadline
            yield room, host
        finally:
            supervisor.send_signal(signal.SIGTERM)
            assert supervisor.wait(20) == 0


def _phase(folder: Path) -> str:
    state = states.read(folder)
    return "" if state is None else state.phase


def _state(folder: Path) -> states.StackState:
    state = states.read(folder)
    assert state is not None
    return state


def health(folder: Path) -> dict[str, object]:
    url = str(_state(folder).services["storage"]["health_url"])
    found: dict[str, object] = httpx.get(url, trust_env=False).json()
    return found


def test_a_changed_file_is_taken_and_a_wrong_one_is_not(
    stack: tuple[Path, Path], until: Until, capsys: pytest.CaptureFixture[str]
) -> None:
    """A change reaches its service by itself; a wrong one, and one of what is read at the start, is refused as a whole
    with file, line and key, by the command too (exit 2), every problem of it; a good one is in force again.
    """
    folder, host = stack
    settings = folder / "settings" / "storage.json"
    reload = ["config", "reload", "--folder", str(folder)]
    assert health(folder)["status"] == "ready"

    host.write_text(SETTINGS.format(host.parent, 1 << 62))
    until(lambda: health(folder)["status"] == "unready")
    assert main(reload) == 0
    assert capsys.readouterr().out.startswith("nothing changed")

    before, good = settings.read_text(), SETTINGS.format(host.parent, 0)
    for text, words in (
        (
            "storage:\n  least_free_bytes: 0\n  least_fre_bytes: 0\n",
            ":3: storage.least_fre_bytes: no such setting (did",
        ),
        ("storage:\n  least_free_bytes: 0\n  runs: elsewhere\n", ":3: storage.runs: is read when the service starts"),
        ("storage: [", ":1: is not YAML"),
    ):
        host.write_text(text)
        assert main(reload) == 2
        said = capsys.readouterr().err
        assert f"{host}{words}" in said
        assert "the configuration in force stays" in said
        assert settings.read_text() == before
        assert health(folder)["status"] == "unready"

    host.write_text("storage: {x: 1}\ncahce: {}\n")
    assert main(reload) == 2
    said = capsys.readouterr().err
    assert ":1: storage.x: no such setting" in said
    assert ":2: cahce: no such service" in said

    host.write_text(f"{good}  log_level: debug\n")
    assert main(reload) == 0
    told = capsys.readouterr().out
    assert told.startswith(("new settings for storage", "nothing changed"))  # the watch may have been first
    until(lambda: health(folder)["status"] == "ready")
    assert json.loads(settings.read_text())["log_level"] == "debug"
    assert settings.stat().st_mode & 0o077 == 0


def test_without_a_stack_there_is_nothing_to_tell(room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where none runs the command says so, exit 5."""
    assert main(["config", "reload", "--folder", str(room)]) == 5
    assert "no stack that serves" in capsys.readouterr().err


def test_a_supervisor_that_does_not_answer_is_said(
    room: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A supervisor that hears and says nothing is an error within its time, exit 5."""
    import psutil

    from reference_stack.orchestration import rereading

    monkeypatch.setattr(rereading, "_ANSWER_S", 0.1)
    room.mkdir()
    deaf = (
        "import signal, time; signal.signal(signal.SIGUSR1, signal.SIG_IGN); print(1, flush=True); "
        "time.sleep(60)"  # lives until it is ended
    )
    with subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE) as supervisor:
        assert supervisor.stdout is not None
        supervisor.stdout.readline()
        created = psutil.Process(supervisor.pid).create_time()
        states.write(room, states.StackState(supervisor.pid, created, phase="ready"))
        try:
            assert main(["config", "reload", "--folder", str(room)]) == 5
        finally:
            os.kill(supervisor.pid, signal.SIGKILL)
    assert "the supervisor did not answer" in capsys.readouterr().err
