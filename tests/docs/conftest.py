"""What the tests of the documentation share: where the pages are, and their words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_ROW = re.compile(r"^\| (?P<first>[^|]*(?:\\\|[^|]*)*?) \|", re.MULTILINE)
_CODE = re.compile(r"`([^`]+)`")


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the top of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def pages() -> dict[Path, str]:
    """Return every Markdown page with its text: the documentation, and what stands at the top."""
    files = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "reports" / "README.md"]
    return {file: file.read_text(encoding="utf-8") for file in files if "_build" not in file.parts}


@pytest.fixture(scope="session")
def reference(root: Path) -> Callable[..., str]:
    """Read a page of the reference, or the part of it below one heading."""

    def read(name: str, heading: str = "") -> str:
        text = (root / "docs" / "reference" / f"{name}.md").read_text(encoding="utf-8")
        if not heading:
            return text
        level = len(heading.split(" ", maxsplit=1)[0])
        start = text.index(f"\n{heading}\n") + len(heading) + 2
        end = re.search(rf"^#{{1,{level}}} ", text[start:], re.MULTILINE)
        return text[start : start + end.start()] if end else text[start:]

    return read


@pytest.fixture(scope="session")
def first_cells() -> Callable[[str], Iterator[str]]:
    """Find what stands as code in the first cells of the tables of a text."""

    def find(text: str) -> Iterator[str]:
        for row in _ROW.finditer(text):
            yield from _CODE.findall(row["first"].replace("\\|", "|"))

    return find
