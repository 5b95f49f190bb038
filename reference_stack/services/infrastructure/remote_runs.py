"""Runs in an S3-compatible store, or in the memory of this process: the layout of run_store, reached through fsspec.

A store of objects takes each one whole or not at all, and has no locks. So what no run names is cleared only when it
has lain there for a while: somebody may be putting the run that will name it.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import fsspec  # type: ignore[import-untyped]  # the package has no types

from reference_stack.errors import NotReady, SettingsError
from reference_stack.services.infrastructure.artefacts import Flaw
from reference_stack.services.infrastructure.digests import Progress, digests, unheard
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

_SCHEMES = ("memory", "s3")
_BLOCK = 4 * 1024 * 1024
_SETTLES_S = 3600.0


@functools.cache
def _errors() -> tuple[type[Exception], ...]:
    """What an fsspec filesystem raises when the other side is away or refuses: of botocore too, where it is there."""
    try:
        from botocore.exceptions import BotoCoreError  # type: ignore[import-untyped]  # the package has no types
    except ImportError:
        return (OSError, TimeoutError)
    return (OSError, TimeoutError, BotoCoreError)


class RemoteRuns:
    """See runs.Runs. `settles_s` is how long something that no run names lies before it is cleared, in seconds."""

    def __init__(self, url: str, options: Mapping[str, object], *, settles_s: float = _SETTLES_S) -> None:
        scheme = url.split("://", 1)[0]
        if scheme not in _SCHEMES:
            raise SettingsError(f"{url}: runs are not kept at {scheme}://", hint="a folder, or s3://BUCKET/PREFIX")
        self.place = url
        self._settles_s = settles_s
        try:
            # No instance that others have: its settings, and what it remembers of the other side, are our own.
            self._files, root = fsspec.core.url_to_fs(
                url, **options, skip_instance_cache=True, use_listings_cache=False
            )
        except ImportError:
            hint = "pip install 'hxp-enterprise-llm-modular[s3]'"
            raise SettingsError(f"{url}: what speaks S3 is not installed", hint=hint) from None
        self._root = str(root).rstrip("/")

    def put(self, source: Path, name: str = "", progress: Progress = unheard) -> StoredRun:
        name, paths = files_to_keep(source, name)
        found = digests(paths, progress=progress)
        with self._asked():
            files = {key: (found[key], self._keep(path, found[key])) for key, path in paths.items()}
            run = StoredRun(name, time.time(), files)
            self._files.pipe_file(self._run(name), json.dumps({"schema": SCHEMA, **asdict(run)}).encode())
        return run

    def _keep(self, source: Path, digest: str) -> int:
        """Send one file; what is there of its size is it, since an object is there whole."""
        size = source.stat().st_size
        target = self._object(digest)
        if self._files.exists(target) and self._files.size(target) == size:
            return size
        read = hashlib.sha256()
        with source.open("rb") as reading, self._files.open(target, "wb") as writing:
            while block := reading.read(_BLOCK):
                read.update(block)
                writing.write(block)
        if read.hexdigest() != digest:
            self._files.rm_file(target)
            raise changed(source)
        return size

    def runs(self) -> list[StoredRun]:
        with self._asked():
            names = [path for path in self._list("runs") if path.endswith(".json")]
            rows = [json.loads(self._files.cat_file(path)) for path in names]
        return sorted((read_run(row) for row in rows), key=lambda run: (run.at_s, run.name))

    def run(self, name: str) -> StoredRun:
        return named(self.runs(), name, self.place)

    @contextmanager
    def read(self, digest: str) -> Iterator[BinaryIO]:
        with self._asked():
            content = self._files.cat_file(self._object(digest))
        yield io.BytesIO(content)

    def flaws(self, run: StoredRun, progress: Progress = unheard) -> list[Flaw]:
        flaws, done = [], 0
        for key, (digest, size) in run.files.items():
            with self._asked():
                found = self._digest(digest)
            if found != digest:
                flaws.append(Flaw(key, "is not what was stored" if found else "is not there"))
            done += size
            progress(done, run.bytes)
        return flaws

    def _digest(self, digest: str) -> str:
        """Return the SHA-256 of what lies under `digest`; "" where nothing does."""
        found = hashlib.sha256()
        try:
            with self._files.open(self._object(digest), "rb") as content:
                while block := content.read(_BLOCK):
                    found.update(block)
        except FileNotFoundError:
            return ""
        return found.hexdigest()

    def clear(self, *, newest: int | None = None, younger_s: float | None = None) -> Swept:
        gone = beyond(self.runs(), newest, younger_s)
        with self._asked():
            for name in gone:
                self._files.rm_file(self._run(name))
            needed = {digest for run in self.runs() for digest, _ in run.files.values()}
            waste = [path for path in self._list("objects") if path.rsplit("/", 1)[1] not in needed]
            waste = [path for path in waste if time.time() - self._changed_s(path) >= self._settles_s]
            size = sum(int(self._files.size(path)) for path in waste)
            for path in waste:
                self._files.rm_file(path)
        return Swept(tuple(gone), len(waste), size)

    def ping(self) -> str:
        try:
            with self._asked():
                self._files.exists(f"{self._root}/runs")
        except NotReady as error:
            return error.message
        return ""

    def _list(self, part: str) -> list[str]:
        return [str(path) for path in self._files.find(f"{self._root}/{part}")]

    def _changed_s(self, path: str) -> float:
        found: datetime = self._files.modified(path)
        return found.replace(tzinfo=found.tzinfo or UTC).timestamp()

    def _object(self, digest: str) -> str:
        return f"{self._root}/objects/{digest[:2]}/{digest}"

    def _run(self, name: str) -> str:
        return f"{self._root}/runs/{name}.json"

    @contextmanager
    def _asked(self) -> Iterator[None]:
        try:
            yield
        except _errors() as error:
            said = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            hint = "check the address and the keys"
            raise NotReady(f"{self.place} cannot be asked: {said}", hint=hint) from error
