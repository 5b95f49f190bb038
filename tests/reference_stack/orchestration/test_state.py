"""Promises of the state file."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import psutil
import pytest

from reference_stack.orchestration.operational import table
from reference_stack.orchestration.state import FILE, StackState, forget, read, write


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """A state is read as it was written, by its owner alone."""
    state = StackState(1, 2.0, "ready", {"cache": "ready"}, {"cache": {"pid": 3}}, ("a note",))
    write(tmp_path, state)
    assert read(tmp_path) == state
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    forget(tmp_path)
    forget(tmp_path)
    assert read(tmp_path) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 99}', '{"schema": 1, "pid": 1}'])
def test_a_file_that_is_no_state_is_none(tmp_path: Path, text: str) -> None:
    """A damaged or foreign file counts as no state."""
    (tmp_path / FILE).write_text(text)
    assert read(tmp_path) is None


def test_a_reused_pid_is_not_taken_for_the_supervisor() -> None:
    """Only a process of that number and that time of birth is the supervisor."""
    created = psutil.Process().create_time()
    assert StackState(os.getpid(), created).alive
    assert not StackState(os.getpid(), created - 100).alive
    assert not StackState(2**22 + 1, created).alive


def test_the_table_has_a_row_a_process_and_the_notes() -> None:
    """Servers without an address have a row too, and notes come last: those of the start, then who ended by itself."""
    services = {"cache": {"pid": 12, "health_url": "http://127.0.0.1:5/health", "limits": "cores 1 of 2 asked"}}
    state = StackState(1, 1.0, "ready", {"valkey": "ready", "cache": "down"}, services, ("no Prometheus",))
    state.pids, state.ended = {"valkey": 12}, {"valkey": "ended by itself once (last: SIGKILL), started again"}
    shown = table(state)
    assert shown.splitlines() == [
        "NAME    STATE  PID  URL                 LIMITS",
        "valkey  ready  12",
        "cache   down        http://127.0.0.1:5  cores 1 of 2 asked",
        "note: no Prometheus",
        "note: valkey ended by itself once (last: SIGKILL), started again",
    ]
