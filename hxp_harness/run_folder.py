"""The folder of one run: made and proved writable before anything starts."""

from __future__ import annotations

import contextlib
import os
from datetime import UTC, datetime
from pathlib import Path

from hxp_harness.errors import UsageError

REPORTS = Path("reports")
_MARKS = ("run.json", "traces.part", "capacity.json", "comparison.json")  # what a folder holds that is taken


def make_run_folder(out: Path | None, label: str) -> Path:
    """Return a new, empty folder: `out`, or reports/<UTC time>-<label> with reports/latest pointing at it.

    Raises UsageError when it holds a run already or cannot be written.
    """
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    folder = out if out is not None else REPORTS / f"{now}-{label}"
    if any((folder / name).exists() for name in _MARKS):
        raise UsageError(f"{folder} holds a run already", hint=f"choose another --out, or: hxp judge {folder}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.write_bytes(b"\0" * 65536)
        probe.unlink()
    except OSError as error:
        raise UsageError(
            f"cannot write to {folder}: {error.strerror}", hint="choose another folder with --out DIR"
        ) from None
    if out is None:
        _point_latest_at(folder)
    return folder.resolve()


def _point_latest_at(folder: Path) -> None:
    link = folder.parent / "latest"
    fresh = folder.parent / f".latest-{os.getpid()}"
    with contextlib.suppress(OSError):  # a convenience: a file system without links loses only that
        fresh.symlink_to(folder.name)
        fresh.replace(link)
