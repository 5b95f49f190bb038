"""Files that are there whole or not at all, whatever ends the process that writes them."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

DRAFT = ".draft-"


def write_whole(file: Path, content: bytes) -> None:
    """Put `content` into `file` in one step: written beside it, on the disk, then renamed."""
    draft = file.with_name(f"{DRAFT}{uuid.uuid4().hex}")
    try:
        with draft.open("wb") as written:
            written.write(content)
            written.flush()
            os.fsync(written.fileno())
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(file.parent)


def sync_folder(folder: Path) -> None:
    """Make names that were given in `folder` last through a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
