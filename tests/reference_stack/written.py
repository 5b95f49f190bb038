"""Files that something watches, written as an editor writes them."""

from __future__ import annotations

from pathlib import Path


def put(file: Path, text: str) -> None:
    """Write `text` in one step: who watches the file never sees it empty, or half of it."""
    draft = file.with_suffix(".draft")
    draft.write_text(text)
    draft.replace(file)
