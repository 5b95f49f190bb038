"""SHA-256 of many large files: in parallel, with progress, and going on where it was interrupted."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# hears of bytes read so far and bytes in all; called from several threads, one at a time
Progress = Callable[[int, int], None]
_BLOCK = 4 * 1024 * 1024


def unheard(_done_bytes: int, _total_bytes: int) -> None:
    """The progress that nobody wants to hear of."""


def digests(
    files: Mapping[str, Path], *, journal: Path | None = None, progress: Progress = unheard, threads: int | None = None
) -> dict[str, str]:
    """Return the hex digest of each file by its name.

    With a `journal` each digest is noted there, with the file's size and time, and is taken from it the next time
    while they are the same. hashlib lets other threads run, so `threads` (None: one a core) are as many cores at work.
    """
    known = {} if journal is None else _noted(journal)
    stamps = {name: _stamp(path) for name, path in files.items()}
    found = {name: known[name][1] for name in files if name in known and known[name][0] == stamps[name]}
    total, lock = sum(stamp[0] for stamp in stamps.values()), threading.Lock()
    done = sum(stamps[name][0] for name in found)

    def add(read_bytes: int) -> None:
        nonlocal done
        with lock:
            done += read_bytes
            progress(done, total)

    def work(name: str) -> None:
        digest = sha256_of(files[name], add)
        with lock:
            found[name] = digest
            if journal is not None and _stamp(files[name]) == stamps[name]:  # else it changed while it was read
                _note(journal, name, stamps[name], digest)

    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        for task in [pool.submit(work, name) for name in files if name not in found]:
            task.result()
    return found


def sha256_of(path: Path, progress: Callable[[int], None] = lambda _read: None) -> str:
    """Return the hex digest of a file's bytes; `progress` hears of each block's length."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            progress(len(block))
    return digest.hexdigest()


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _note(journal: Path, name: str, stamp: tuple[int, int], digest: str) -> None:
    with journal.open("a", encoding="utf-8") as file:
        file.write(json.dumps([name, *stamp, digest]) + "\n")


def _noted(journal: Path) -> dict[str, tuple[tuple[int, int], str]]:
    found = {}
    try:
        lines = journal.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    for line in lines:
        try:
            name, size, at_ns, digest = json.loads(line)
        except (ValueError, TypeError):  # the line at which somebody was killed
            continue
        found[name] = ((size, at_ns), digest)
    return found
