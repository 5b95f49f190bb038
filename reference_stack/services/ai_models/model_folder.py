"""A folder of made-up model files, kept under a name that tells its content: made once, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path


def make_folder(root: Path, name: str, made_of: Sequence[object], write: Callable[[Path], None]) -> Path:
    """Return the folder under `root` for `name` and all that it is `made_of` (JSON values), made by `write` if needed.

    The folder appears whole or not at all, so that two makers at once do no harm.
    """
    folder = root / f"{name}-{hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:12]}"
    if folder.exists():
        return folder
    root.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=root))
    try:
        write(part)
        part.chmod(0o755)
        os.rename(part, folder)  # noqa: PTH104 - fails, rather than nests, where another maker was first
    except OSError:
        if not folder.exists():
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder
