"""Run artefacts by their content: equal files are kept once, and a run is there whole or not at all.

`objects/ab/abcdef...` has each file under its SHA-256; `runs/NAME.json`, written last, says which run is made of which.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from reference_stack.errors import SettingsError, nearest
from reference_stack.services.infrastructure.artefacts import Flaw, files_of
from reference_stack.services.infrastructure.digests import Progress, digests, sha256_of, unheard
from reference_stack.services.infrastructure.durable import DRAFT, sync_folder, write_whole

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SCHEMA = 1


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


class RunStore:
    """A folder of runs. Several processes may use it at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._objects = folder / "objects"
        self._runs = folder / "runs"

    def put(self, source: Path, name: str = "", progress: Progress = unheard) -> StoredRun:
        """Keep the run in `source` under `name` (its folder's own unless given); one of that name is replaced.

        Raises SettingsError when there is no run, no room, or the name is none.
        """
        name = name or source.resolve().name
        if not NAME.fullmatch(name):
            raise SettingsError(f"{name!r} is no name of a run", hint="letters, digits, dots, dashes, underscores")
        if not (source / "run.json").is_file():
            raise SettingsError(f"{source} holds no run: there is no run.json in it", hint="give a folder of reports/")
        paths = {path.relative_to(source).as_posix(): path for path in files_of(source)}
        outside = [key for key, path in paths.items() if not path.resolve().is_relative_to(source.resolve())]
        if outside:
            raise SettingsError(f"{source}: {outside[0]} leads out of the run", hint="replace the link by its file")
        with self._held(exclusive=False):
            self._make_room(sum(path.stat().st_size for path in paths.values()))
            found = digests(paths, progress=progress)
            files = {key: (found[key], self._keep(path, found[key])) for key, path in paths.items()}
            run = StoredRun(name, time.time(), files)
            write_whole(self._runs / f"{name}.json", json.dumps({"schema": _SCHEMA, **asdict(run)}).encode())
        return run

    def _make_room(self, size: int) -> None:
        free = shutil.disk_usage(self.folder).free
        if size > free:
            raise SettingsError(f"the run has {size} bytes and {self.folder} has room for {free}", hint="storage gc")

    def _keep(self, source: Path, digest: str) -> int:
        target = self.object(digest)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            draft = target.with_name(f"{DRAFT}{uuid.uuid4().hex}")
            try:
                with source.open("rb") as reading, draft.open("wb") as writing:
                    shutil.copyfileobj(reading, writing)
                    writing.flush()
                    os.fsync(writing.fileno())
                if sha256_of(draft) != digest:
                    raise SettingsError(f"{source} changed while it was read", hint="wait until the run has ended")
                draft.replace(target)
            finally:
                draft.unlink(missing_ok=True)
            sync_folder(target.parent)
        return target.stat().st_size

    def object(self, digest: str) -> Path:
        """Return where the content with that SHA-256 lies, or would."""
        return self._objects / digest[:2] / digest

    def runs(self) -> list[StoredRun]:
        """Return the runs, oldest first."""
        found = [self._read(file) for file in self._runs.glob("[!.]*.json")] if self._runs.is_dir() else []
        return sorted(found, key=lambda run: (run.at_s, run.name))

    def run(self, name: str) -> StoredRun:
        """Return one run; raises SettingsError with the nearest right spelling."""
        known = {run.name: run for run in self.runs()}
        if name not in known:
            raise SettingsError(f"no run {name!r} in {self.folder}", hint=nearest(name, known) if known else "")
        return known[name]

    def _read(self, file: Path) -> StoredRun:
        row = json.loads(file.read_text(encoding="utf-8"))
        return StoredRun(row["name"], row["at_s"], {key: (value[0], value[1]) for key, value in row["files"].items()})

    def flaws(self, run: StoredRun, progress: Progress = unheard) -> list[Flaw]:
        """Return what is wrong with a run's files; reads every byte."""
        paths = {key: self.object(digest) for key, (digest, _) in run.files.items()}
        there = {key: path for key, path in paths.items() if path.is_file()}
        found = digests(there, progress=progress)
        flaws = [Flaw(key, "is not there") for key in paths if key not in there]
        return flaws + [Flaw(key, "is not what was stored") for key in there if found[key] != run.files[key][0]]

    def clear(self, *, newest: int | None = None, younger_s: float | None = None) -> Swept:
        """Forget the runs beyond the `newest` so many and older than `younger_s` seconds, and what no run needs.

        With both, a run stays that either keeps; with neither, all runs stay.
        """
        with self._held(exclusive=True):
            gone = _beyond(self.runs(), newest, younger_s)
            for name in gone:
                (self._runs / f"{name}.json").unlink()
            sync_folder(self._runs)
            needed = {digest for run in self.runs() for digest, _ in run.files.values()}
            waste = [path for path in self._objects.glob("*/*") if path.name not in needed]
            waste += list(self._runs.glob(f"{DRAFT}*"))
            size = sum(path.stat().st_size for path in waste)
            for path in waste:
                path.unlink()
        return Swept(tuple(gone), len(waste), size)

    @contextmanager
    def _held(self, *, exclusive: bool) -> Iterator[None]:
        """Nothing is cleared while something is put: its objects are not yet named by a run."""
        for folder in (self._objects, self._runs):
            folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
            yield


def _beyond(runs: list[StoredRun], newest: int | None, younger_s: float | None) -> list[str]:
    if newest is None and younger_s is None:
        return []
    kept = set() if newest is None else {run.name for run in runs[max(0, len(runs) - newest) :]}
    if younger_s is not None:
        kept |= {run.name for run in runs if run.at_s >= time.time() - younger_s}
    return [run.name for run in runs if run.name not in kept]
