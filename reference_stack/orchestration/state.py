"""The file in which a running stack says of itself what it is; other commands find it there."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SCHEMA = 1
FILE = "state.json"


@dataclass(slots=True)
class StackState:
    """The supervisor (`pid`, and `created` in seconds since the epoch, so that a reused pid is not taken for it).

    `phase` is starting, ready, stopping or failed; `units` maps each process to its state, `services` each service to
    what it offers, `pids` each process that serves to its pid, `ended` those that ended by themselves and are kept up
    to what became of them; `said` is what was done before the first process started, `notes` what a person should know.
    `down_s` is how long its stop may take. `reloads` counts how often the configuration was read again; `refused` is
    what was wrong with it the last time, and `changed` the services whose settings it changed.
    """

    pid: int
    created: float
    phase: str = "starting"
    units: dict[str, str] = field(default_factory=dict)
    services: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    error: str = ""
    hint: str = ""
    said: tuple[str, ...] = ()
    down_s: float = 10.0
    reloads: int = 0
    refused: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    pids: dict[str, int] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)

    @property
    def alive(self) -> bool:
        """Whether the supervisor that wrote this still runs."""
        import psutil

        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.created) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
        return False


def path(folder: Path) -> Path:
    """Return where a stack in `folder` says what it is."""
    return folder / FILE


def write(folder: Path, state: StackState) -> None:
    """Put `state` into `folder` in one step; it may hold a key, so only its owner may read it."""
    row = {name: getattr(state, name) for name in StackState.__slots__}
    draft = folder / f"{FILE}.part"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump({"schema": SCHEMA, **row}, file, indent=1)
    draft.replace(folder / FILE)


def read(folder: Path) -> StackState | None:
    """Return the state in `folder`, None when there is none that can be read."""
    try:
        row = json.loads((folder / FILE).read_text(encoding="utf-8"))
        if row.pop("schema") != SCHEMA:
            return None
        told = {name: tuple(row[name]) for name in ("notes", "said", "refused", "changed") if name in row}
        return StackState(**{**row, **told})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def forget(folder: Path) -> None:
    """Remove the state file."""
    (folder / FILE).unlink(missing_ok=True)
