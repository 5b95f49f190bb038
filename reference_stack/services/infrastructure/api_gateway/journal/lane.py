"""Whose part of a journal's directory is whose: one lane a process, locked while the process lives.

lane-0/lock is held by the process that writes there, and the kernel lets go of it at the process's death;
lane-0/00000001.segment and on are append-only; lane-0/marks has the progress of open requests. Beside the lanes,
parked has the rows that the database refused, and owner a mark of the database that all rows go to.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
from collections.abc import Generator
from pathlib import Path
from typing import Self

log = logging.getLogger(__name__)

_LANE = re.compile(r"lane-(\d+)")
_SEGMENT = re.compile(r"(\d{8,})\.segment")
MARKS = "marks"
PARKED = "parked"
OWNER = "owner"


class Lane:
    """A lane that this process holds, until it is closed."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def close(self) -> None:
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Strange(OSError):
    """The directory is in use for another database: who adopted its lanes would store rows in the wrong one."""

    def __init__(self) -> None:
        super().__init__("a gateway with another database has its journal there")


def claim(directory: Path, owner: str = "") -> Lane:
    """Take the first lane that nobody holds and nothing was left in, making it if need be.

    `owner` says whose rows these are. The directory takes another owner only when nobody holds a lane of it. Raises
    OSError, and Strange.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (directory / OWNER).open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until the lane is held: two that start at once must see each other
        file.seek(0)
        was = file.read()
        if was != owner:
            if was and any(map(is_held, lanes(directory))):
                raise Strange
            if was and any(map(segments, lanes(directory))):
                log.warning("rows left in %s by a gateway with another database go to this one's", directory)
            file.truncate(0)
            file.write(owner)
            file.flush()
        return _first_free(directory)


def _first_free(directory: Path) -> Lane:
    number = 0
    while True:
        path = directory / f"lane-{number}"
        path.mkdir(mode=0o700, exist_ok=True)
        lane = _hold(path)
        if lane is not None:
            if not segments(path):
                return lane
            lane.close()
        number += 1


def claim_left(directory: Path) -> Generator[Lane, None, None]:
    """Take, one after another, the lanes whose process died and left something; close each before the next."""
    for path in lanes(directory):
        if not segments(path):
            continue
        lane = _hold(path)
        if lane is None:
            continue
        with lane:
            yield lane


def lanes(directory: Path) -> list[Path]:
    """Return the lanes' folders in the order of their numbers."""
    found = [(int(match[1]), path) for path in _entries(directory) if (match := _LANE.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def segments(lane: Path) -> list[tuple[int, Path]]:
    """Return a lane's segments with their numbers, in the order in which they were written."""
    return sorted((int(match[1]), path) for path in _entries(lane) if (match := _SEGMENT.fullmatch(path.name)))


def segment_path(lane: Path, number: int) -> Path:
    return lane / f"{number:08}.segment"


def is_held(lane: Path) -> bool:
    """Whether a living process writes into this lane."""
    held = _hold(lane)
    if held is None:
        return True
    held.close()
    return False


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def _hold(path: Path) -> Lane | None:
    descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise
    return Lane(path, descriptor)
