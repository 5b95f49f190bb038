"""The commands of somebody who runs a stack: up, down, status."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from reference_stack.errors import NotReady
from reference_stack.orchestration import state as states

_LOOK_S = 0.03
_UP_S = 600.0
_POLL_S = 0.02
_DOWN_S = 10.0
_QUIET_S = 2.0


def up(folder: Path, arguments: Sequence[str]) -> int:
    """Start a supervisor that outlives this command, with `arguments` of `up`; return when all is ready.

    Raises NotReady with the reason when it is not. A stack that runs already is shown as it is.
    """
    running = states.read(folder)
    if running is not None and running.alive:
        print(f"already up (pid {running.pid})")
        print(table(running))
        return 0 if running.phase == "ready" else 5
    folder.mkdir(parents=True, exist_ok=True)
    states.forget(folder)
    log_file = folder / "supervisor.log"
    with log_file.open("wb") as log:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "reference_stack", "up", "--foreground", "--detached", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        state = _until_ready(folder, supervisor, log_file)
    except KeyboardInterrupt:
        supervisor.terminate()
        supervisor.wait(_DOWN_S)
        raise
    print(table(state))
    return 0


def _until_ready(folder: Path, supervisor: subprocess.Popen[bytes], log_file: Path) -> states.StackState:
    began = told = time.monotonic()
    heard = 0
    while time.monotonic() < began + _UP_S:
        state = states.read(folder)
        if state is not None and state.pid == supervisor.pid:
            for text in state.said[heard:]:
                print(text, file=sys.stderr, flush=True)
            heard = max(heard, len(state.said))
            if state.phase == "ready":
                return state
            if time.monotonic() > told + _QUIET_S:
                told = time.monotonic()
                waiting = [name for name, unit in state.units.items() if unit != "ready"]
                what = f"waiting for {', '.join(waiting)}" if waiting else "preparing"
                print(f"{told - began:3.0f} s: {what}", file=sys.stderr, flush=True)
        if supervisor.poll() is not None:
            state = states.read(folder)
            if state is not None and state.phase == "failed":
                states.forget(folder)
                raise NotReady(state.error, hint=state.hint)
            tail = log_file.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise NotReady(f"the supervisor ended ({supervisor.returncode}):\n{tail}", hint=f"read {log_file}")
        time.sleep(_LOOK_S)  # looks at what the supervisor writes
    supervisor.terminate()
    raise NotReady(f"not up after {_UP_S:g} s", hint=f"read {log_file}")


def down(folder: Path) -> int:
    """Stop the stack of `folder`; one that does not run is no error."""
    import psutil

    state = states.read(folder)
    if state is None or not state.alive:
        states.forget(folder)
        print("nothing runs here" if state is None else "nothing runs here any more: its supervisor was killed")
        return 0
    began = time.monotonic()
    with contextlib.suppress(psutil.NoSuchProcess):
        supervisor = psutil.Process(state.pid)
        supervisor.send_signal(signal.SIGTERM)
        if not _ended(state, state.down_s):
            supervisor.kill()  # its children are set to die with it
            _ended(state, _DOWN_S)
    states.forget(folder)
    print(f"down after {time.monotonic() - began:.1f} s")
    return 0


def _ended(state: states.StackState, within_s: float) -> bool:
    """Wait for the supervisor to end. One that nobody has reaped yet has ended: its new parent may take seconds."""
    began = told_s = time.monotonic()
    while state.alive:
        now_s = time.monotonic()
        if now_s > began + within_s:
            return False
        if now_s > told_s + _QUIET_S:
            told_s = now_s
            print(f"{now_s - began:3.0f} s: waiting for open requests to end", file=sys.stderr, flush=True)
        time.sleep(_POLL_S)  # a process that is not our child can only be looked at
    return True


def status(folder: Path, *, as_json: bool) -> int:
    """Show what runs in `folder`; return 0 when all of it serves, 5 when something is down."""
    state = states.read(folder)
    if state is None:
        return _say_down("nothing runs here", folder, as_json=as_json)
    if not state.alive:
        return _say_down(f"its supervisor (pid {state.pid}) was killed, and all with it", folder, as_json=as_json)
    serves = state.phase == "ready" and all(unit == "ready" for unit in state.units.values())
    if as_json:
        row = {"up": serves, "phase": state.phase, "pid": state.pid, "units": state.units, "pids": state.pids}
        row |= {"ended": state.ended, "services": state.services}
        print(json.dumps(row))
    else:
        print(table(state))
    return 0 if serves else 5


def _say_down(reason: str, folder: Path, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"up": False, "phase": "down", "error": reason, "units": {}, "services": {}}))
    else:
        print(f"{reason}\n  hxp-stack up --folder {folder}")
    return 5


def table(state: states.StackState) -> str:
    """Return the stack as a table: each process, its state, its address, what it is held to."""
    rows = [("NAME", "STATE", "PID", "URL", "LIMITS")]
    for name, unit in state.units.items():
        offer = state.services.get(name, {})
        url = offer.get("base_url") or str(offer.get("health_url", "")).removesuffix("/health")
        rows.append((name, unit, str(state.pids.get(name, "")), str(url), str(offer.get("limits", ""))))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    notes = [*state.notes, *(f"{name} {text}" for name, text in state.ended.items())]
    return "\n".join([*lines, *(f"note: {note}" for note in notes)])
