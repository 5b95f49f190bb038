"""Run artefacts by their content: equal files are kept once, and a run is there whole or not at all.

`objects/ab/abcdef...` has each file under its SHA-256; `runs/NAME.json`, written last, says which run is made of which.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

from reference_stack.errors import NotReady, SettingsError
from reference_stack.services.infrastructure.artefacts import Flaw
from reference_stack.services.infrastructure.digests import Progress, digests, sha256_of, unheard
from reference_stack.services.infrastructure.durable import DRAFT, sync_folder, write_whole
from reference_stack.services.infrastructure.runs import (
    SCHEMA,
    StoredRun,
    Swept,
    beyond,
    changed,
    files_to_keep,
    named,
    read_run,
)


class RunStore:
    """See runs.Runs: a folder of runs. Several processes may use it at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._objects = folder / "objects"
        self._runs = folder / "runs"

    @property
    def place(self) -> str:
        return str(self.folder)

    def put(self, source: Path, name: str = "", progress: Progress = unheard) -> StoredRun:
        name, paths = files_to_keep(source, name)
        with self._held(exclusive=False):
            self._make_room(sum(path.stat().st_size for path in paths.values()))
            found = digests(paths, progress=progress)
            files = {key: (found[key], self._keep(path, found[key])) for key, path in paths.items()}
            run = StoredRun(name, time.time(), files)
            write_whole(self._runs / f"{name}.json", json.dumps({"schema": SCHEMA, **asdict(run)}).encode())
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
                    raise changed(source)
                draft.replace(target)
            finally:
                draft.unlink(missing_ok=True)
            sync_folder(target.parent)
        return target.stat().st_size

    def object(self, digest: str) -> Path:
        """Return where the content with that SHA-256 lies, or would."""
        return self._objects / digest[:2] / digest

    @contextmanager
    def read(self, digest: str) -> Iterator[BinaryIO]:
        try:
            content = self.object(digest).open("rb")
        except OSError as error:
            raise NotReady(f"{self.folder} cannot be asked: {error.strerror}") from None
        with content:
            yield content

    def ping(self) -> str:
        # It is made with the first run; what counts is whether it can be.
        folder = next(path for path in (self.folder, *self.folder.parents) if path.exists())
        return "" if folder.is_dir() and os.access(folder, os.W_OK) else f"{self.folder} cannot be written"

    def runs(self) -> list[StoredRun]:
        found = [self._read(file) for file in self._runs.glob("[!.]*.json")] if self._runs.is_dir() else []
        return sorted(found, key=lambda run: (run.at_s, run.name))

    def run(self, name: str) -> StoredRun:
        return named(self.runs(), name, self.place)

    def _read(self, file: Path) -> StoredRun:
        return read_run(json.loads(file.read_text(encoding="utf-8")))

    def flaws(self, run: StoredRun, progress: Progress = unheard) -> list[Flaw]:
        paths = {key: self.object(digest) for key, (digest, _) in run.files.items()}
        there = {key: path for key, path in paths.items() if path.is_file()}
        found = digests(there, progress=progress)
        flaws = [Flaw(key, "is not there") for key in paths if key not in there]
        return flaws + [Flaw(key, "is not what was stored") for key in there if found[key] != run.files[key][0]]

    def clear(self, *, newest: int | None = None, younger_s: float | None = None) -> Swept:
        with self._held(exclusive=True):
            gone = beyond(self.runs(), newest, younger_s)
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
