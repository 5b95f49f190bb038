"""The page about a comparison."""

from __future__ import annotations

from pathlib import Path

from hxp_harness.comparison.attribution import rows
from hxp_harness.comparison.record import HEAD, Comparison, cells, headline, read_comparison, story
from hxp_harness.report.page import Page, Sheet, plain, write_pages


def write_comparison_views(folder: Path) -> list[Path]:
    """Write report.html, report.md and junit.xml into `folder` and return them."""
    from hxp_harness.comparison.pictures import changes

    record = read_comparison(folder)
    picture = changes(record)
    return write_pages(folder, page_of(record, {} if picture is None else {"Every change": picture}))


def tell_comparison(folder: Path) -> str:
    """Return the story of a comparison in words."""
    return plain(page_of(read_comparison(folder)))


def page_of(record: Comparison, plots: dict[str, str] | None = None) -> Page:
    """Return what there is to say."""
    sheets = [Sheet("From A to B", HEAD, tuple(cells(record.effects)))]
    if record.floor:
        sheets.append(Sheet("From A to A: the noise floor", HEAD, tuple(cells(record.floor))))
    if record.counters and (told := rows(record.counters["a"], record.counters["b"])):
        sheets.append(Sheet("The servers' own counters", ("counter", "A", "B"), tuple(told)))
    return Page(
        title=f"{record.title}: A {record.a}, B {record.b}",
        word=record.word,
        outcome=record.outcome,
        headline=headline(record),
        story=tuple(story(record)),
        evidence=record.evidence,
        sheets=tuple(sheets),
        plots=plots or {},
    )
