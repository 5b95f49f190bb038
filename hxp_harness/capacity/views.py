"""The page about a search, made from its folder alone."""

from __future__ import annotations

import shlex
from pathlib import Path

from hxp_harness.capacity.record import CapacityRecord, headline, read_capacity, rps, story
from hxp_harness.gates.outcome import Outcome
from hxp_harness.report.page import Page, Sheet, plain, write_pages
from hxp_harness.report.words import UNKNOWN
from hxp_harness.units import format_quantity

_HEAD = ("rate", "run", "verdict", "completed", "gated latency", "tokens/s", "tokens/s a user", "why", "folder")


def write_capacity_views(folder: Path) -> list[Path]:
    """Write report.html, report.md and junit.xml into `folder` and return them."""
    from hxp_harness.capacity.pictures import latency_by_rate, pareto

    record = read_capacity(folder)
    plots = {
        "What each rate costs": latency_by_rate(record),
        "What one user gets for what the machine gives": pareto(record),
    }
    drawn = {heading: picture for heading, picture in plots.items() if picture is not None}
    return write_pages(folder, page_of(record, folder, drawn))


def tell_capacity(folder: Path) -> str:
    """Return the story of a search in words."""
    return plain(page_of(read_capacity(folder), folder))


def page_of(record: CapacityRecord, folder: Path, plots: dict[str, str] | None = None) -> Page:
    """Return what there is to say; `folder` is only named in the commands."""
    named = shlex.quote(str(folder))
    commands = [(f"hxp explain {named}", "say how the answer came about")]
    for rate, outcome in ((record.passes_at_rps, Outcome.PASS), (record.fails_at_rps, Outcome.FAIL)):
        wanted = (rate, outcome, True)
        deciding = next((one for one in record.points if (one.rate_rps, one.outcome, one.certifying) == wanted), None)
        if deciding is not None:
            run = f"{named}/{deciding.folder}"
            commands.append((f"hxp report {run}", f"write the report of the run at {rps(rate)}"))
    return Page(
        title=f"Capacity: {record.title}",
        word=record.verdict.value,
        outcome=record.verdict,
        headline=headline(record),
        story=tuple(story(record)),
        evidence=record.evidence,
        sheets=(Sheet("Every run", _HEAD, tuple(_rows(record))),),
        plots=plots or {},
        commands=tuple(commands),
    )


def _rows(record: CapacityRecord) -> list[tuple[str, ...]]:
    return [
        (
            rps(one.rate_rps),
            "for a verdict" if one.certifying else "short",
            one.outcome.value,
            UNKNOWN if one.completed_rps is None else rps(one.completed_rps),
            UNKNOWN if one.gated_s is None else format_quantity(one.gated_s, "time"),
            UNKNOWN if one.tokens_per_s is None else f"{one.tokens_per_s:.0f}",
            UNKNOWN if one.tokens_per_s_user is None else f"{one.tokens_per_s_user:.1f}",
            one.headline,
            one.folder,
        )
        for one in sorted(record.points, key=lambda one: one.rate_rps)
    ]
