"""Rows that the database refuses for good, kept in a file beside the journal for a person to look at."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

from reference_stack.schemas.api.usage import UsageRow
from reference_stack.services.infrastructure.api_gateway.journal.lane import PARKED
from reference_stack.services.infrastructure.api_gateway.journal.record import Final, final_of, line_of, scan


def park(directory: Path, rows: Sequence[UsageRow]) -> None:
    """Add `rows`, each once whoever adds it and how often, and put them on the disk. Raises OSError."""
    descriptor = os.open(directory / PARKED, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        data = file.readall()
        known = {row.request_id for row in _rows(data)}
        lines = b"".join(line_of(final_of(row)) for row in rows if row.request_id not in known)
        if lines:
            end = b"" if data.endswith(b"\n") or not data else b"\n"  # someone's last write was cut off
            file.write(end + lines)
        os.fsync(file.fileno())


def parked(directory: Path) -> list[UsageRow]:
    """Return the rows that are parked."""
    try:
        return _rows((directory / PARKED).read_bytes())
    except FileNotFoundError:
        return []


def _rows(data: bytes) -> list[UsageRow]:
    return [record.row() for record in scan(data).records if isinstance(record, Final)]
