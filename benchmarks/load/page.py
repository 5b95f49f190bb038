"""Puts what a benchmark found into the docs: between two comments of docs/reference/figures.md that name it."""

from __future__ import annotations

from pathlib import Path

FIGURES = Path(__file__).parents[2] / "docs" / "reference" / "figures.md"


def put(name: str, text: str, page: Path = FIGURES) -> None:
    """Replace what `page` has of the benchmark `name`; raise ValueError where it has no place for it."""
    begin, end = (f"<!-- {name}: {word} -->" for word in ("begin", "end"))
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{page} has no place for {name}: the comments {begin} and {end}")
    page.write_text(f"{before}{begin}\n{text.strip()}\n{end}{after}", encoding="utf-8")
