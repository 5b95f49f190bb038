"""Files that are whole or not there: written beside their place, then renamed into it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from hxp_harness.errors import InvalidRun


def write_whole(file: Path, text: str) -> Path:
    """Write `text` as UTF-8 so that a reader sees the old file or the new one, never half of it.

    Raises InvalidRun, naming the file and the cause, when the disk does not take it.
    """
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with draft.open("w", encoding="utf-8", errors="replace", newline="\n") as sink:
            sink.write(text)
            sink.flush()
            os.fsync(sink.fileno())
        draft.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):  # where nothing could be written there is nothing to take away
            draft.unlink()
        raise InvalidRun(
            f"cannot write {file}: {error.strerror}", hint="make room or choose another folder with --out DIR"
        ) from None
    return file
