"""Which weights a folder holds: the revision it was fetched at, and one hash over all its files."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

HASHED_BYTES = 2**30  # larger folders are hashed once, by whoever made their manifest
MANIFEST = "manifest.sha256"
_REVISION = re.compile(r"[0-9a-f]{40}")


def weights_facts(folder: Path) -> dict[str, str]:
    """Return `model_revision` and `weights_sha256` as far as the folder tells them.

    The hash is that of manifest.sha256, which lists the hash of every file; without one, small folders are hashed as
    such a manifest would have them.
    """
    facts = {"model_revision": revision(folder), "weights_sha256": weights_sha256(folder)}
    return {name: value for name, value in facts.items() if value}


def revision(folder: Path) -> str:
    """Return the commit that huggingface_hub noted where it stored a download; empty where none did."""
    if _REVISION.fullmatch(folder.resolve().name):  # hub cache: models--OWNER--NAME/snapshots/COMMIT
        return folder.resolve().name
    for note in sorted((folder / ".cache" / "huggingface" / "download").glob("*.metadata")):
        first = note.read_text(encoding="utf-8", errors="replace").partition("\n")[0].strip()
        if _REVISION.fullmatch(first):
            return first
    return ""


def weights_sha256(folder: Path) -> str:
    """Return one hash over all files; empty where they are too many to read at a start and have no manifest."""
    manifest = folder / MANIFEST
    if manifest.is_file():
        return hashlib.sha256(manifest.read_bytes()).hexdigest()
    files = sorted(path for path in folder.rglob("*") if path.is_file() and ".cache" not in path.parts)
    if not files or sum(path.stat().st_size for path in files) > HASHED_BYTES:
        return ""
    whole = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            own = hashlib.file_digest(stream, "sha256").hexdigest()
        whole.update(f"{own}  {path.relative_to(folder).as_posix()}\n".encode())
    return whole.hexdigest()
