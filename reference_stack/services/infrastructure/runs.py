"""What the rest of the stack asks of the place where runs are kept: each there whole or not at all, under its name."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from reference_stack.errors import SettingsError, nearest
from reference_stack.services.infrastructure.artefacts import Flaw, files_of
from reference_stack.services.infrastructure.digests import Progress, unheard

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run: when it was put here (seconds since 1970), and the SHA-256 and bytes of each of its files."""

    name: str
    at_s: float
    files: Mapping[str, tuple[str, int]]

    @property
    def bytes(self) -> int:
        return sum(size for _, size in self.files.values())


@dataclass(frozen=True, slots=True)
class Swept:
    """What a clearing took away."""

    runs: tuple[str, ...]
    objects: int
    bytes: int


class Runs(Protocol):
    """Runs by their content: equal files are kept once. Raises NotReady while the place cannot be asked."""

    @property
    def place(self) -> str:
        """Return where it is, as a person would say it."""
        ...

    def put(self, source: Path, name: str = "", progress: Progress = unheard) -> StoredRun:
        """Keep the run in `source` under `name` (its folder's own unless given); one of that name is replaced.

        Raises SettingsError when there is no run, no room, or the name is none.
        """
        ...

    def runs(self) -> list[StoredRun]:
        """Return the runs, oldest first."""
        ...

    def run(self, name: str) -> StoredRun:
        """Return one run; raises SettingsError with the nearest right spelling."""
        ...

    def read(self, digest: str) -> AbstractContextManager[BinaryIO]:
        """Open the content with that SHA-256; raises NotReady where there is none."""
        ...

    def flaws(self, run: StoredRun, progress: Progress = unheard) -> list[Flaw]:
        """Return what is wrong with a run's files; reads every byte."""
        ...

    def clear(self, *, newest: int | None = None, younger_s: float | None = None) -> Swept:
        """Forget the runs beyond the `newest` so many and older than `younger_s` seconds, and what no run needs.

        With both, a run stays that either keeps; with neither, all runs stay.
        """
        ...

    def ping(self) -> str:
        """Return "" when runs can be kept here, else why not."""
        ...


def files_to_keep(source: Path, name: str) -> tuple[str, dict[str, Path]]:
    """Return the name of the run in `source` and its files by their path in it. Raises SettingsError."""
    name = name or source.resolve().name
    if not NAME.fullmatch(name):
        raise SettingsError(f"{name!r} is no name of a run", hint="letters, digits, dots, dashes, underscores")
    if not (source / "run.json").is_file():
        raise SettingsError(f"{source} holds no run: there is no run.json in it", hint="give a folder of reports/")
    paths = {path.relative_to(source).as_posix(): path for path in files_of(source)}
    outside = [key for key, path in paths.items() if not path.resolve().is_relative_to(source.resolve())]
    if outside:
        raise SettingsError(f"{source}: {outside[0]} leads out of the run", hint="replace the link by its file")
    return name, paths


def changed(source: Path) -> SettingsError:
    """Return the error of a file that was another one when it was kept than when it was read."""
    return SettingsError(f"{source} changed while it was read", hint="wait until the run has ended")


def named(runs: Sequence[StoredRun], name: str, place: str) -> StoredRun:
    """Return the run of that name. Raises SettingsError with the nearest right spelling."""
    known = {run.name: run for run in runs}
    if name not in known:
        raise SettingsError(f"no run {name!r} in {place}", hint=nearest(name, known) if known else "")
    return known[name]


def beyond(runs: Sequence[StoredRun], newest: int | None, younger_s: float | None) -> list[str]:
    """Return the names of the runs, given oldest first, that neither rule keeps."""
    if newest is None and younger_s is None:
        return []
    kept = set() if newest is None else {run.name for run in runs[max(0, len(runs) - newest) :]}
    if younger_s is not None:
        kept |= {run.name for run in runs if run.at_s >= time.time() - younger_s}
    return [run.name for run in runs if run.name not in kept]


def read_run(row: Mapping[str, object]) -> StoredRun:
    """Return the run that a row of JSON describes."""
    files = row["files"]
    assert isinstance(files, dict)  # noqa: S101 - written by us
    found = {key: (str(digest), int(size)) for key, (digest, size) in files.items()}
    return StoredRun(str(row["name"]), float(str(row["at_s"])), found)
