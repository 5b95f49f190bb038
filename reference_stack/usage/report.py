"""What `hxp-stack usage` shows: a table for people, or the same as JSON. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from pathlib import Path

from reference_stack.services.integration.database.port import UsageSum

NAMES = ("key", "tenant", "model")
_FIELDS = {"key": "key_id", "tenant": "tenant", "model": "model"}
_COUNTS = tuple(field.name for field in fields(UsageSum) if field.name not in _FIELDS.values())
_TITLES = {"prompt_tokens": "prompt tokens", "output_tokens": "output tokens", "inexact": "counted by us"}


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a gateway's journal in `directory` holds that the database has not: requests by how far they are."""

    directory: Path
    ended: int = 0
    open: int = 0
    parked: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """Usage over [since, until), None where that is open, and what waits in the journal, None where there is none."""

    sums: Sequence[UsageSum]
    since: datetime | None
    until: datetime | None
    waiting: Waiting | None


def merged(sums: Sequence[UsageSum], by: Sequence[str]) -> list[UsageSum]:
    """Return the sums by these names (of NAMES) alone; the others are empty."""
    hidden = {_FIELDS[name]: "" for name in NAMES if name not in by}
    found: dict[tuple[str, str, str], UsageSum] = {}
    for each in sums:
        one = replace(each, **hidden)  # type: ignore[arg-type]  # fields of the dataclass, by name
        name = (one.key_id, one.tenant, one.model)
        found[name] = _plus(found[name], one) if name in found else one
    return [found[name] for name in sorted(found)]


def total(sums: Sequence[UsageSum]) -> UsageSum:
    """Return all of it."""
    nothing = UsageSum("", "", "", *(0 for _ in _COUNTS))
    for each in sums:
        nothing = _plus(nothing, each)
    return nothing


def as_json(report: Report, by: Sequence[str]) -> dict[str, object]:
    """Return what a program reads; `rows` have the names they are grouped by."""
    waiting = report.waiting
    return {
        "since": report.since and report.since.isoformat(),
        "until": report.until and report.until.isoformat(),
        "rows": [
            {name: getattr(each, _FIELDS[name]) for name in by} | _counts(each) for each in merged(report.sums, by)
        ],
        "total": _counts(total(report.sums)),
        "journal": None if waiting is None else asdict(waiting) | {"directory": str(waiting.directory)},
    }


def as_table(report: Report, by: Sequence[str]) -> str:
    """Return the table, its total, and what waits."""
    rows = merged(report.sums, by)
    head = [*by, *(_TITLES.get(name, name) for name in _COUNTS)]
    lines = [[*(getattr(row, _FIELDS[name]) or "-" for name in by), *map(str, _counts(row).values())] for row in rows]
    lines.append([*("total", *("" for _ in by[1:])), *map(str, _counts(total(rows)).values())])
    widths = [max(len(line[place]) for line in [head, *lines]) for place in range(len(head))]
    text = [_line(line, widths, len(by)) for line in [head, *lines]] if rows else ["no usage in that time"]
    return "\n".join([*text, *_waiting(report.waiting)])


def _waiting(waiting: Waiting | None) -> list[str]:
    if waiting is None:
        return []
    lines = [f"in the journal, not stored yet: {waiting.ended} that ended, {waiting.open} open or cut off"]
    if waiting.parked:
        lines.append(f"refused by the database: {waiting.parked}, kept in {waiting.directory / 'parked'}")
    return lines


def _line(cells: Sequence[str], widths: Sequence[int], names: int) -> str:
    padded = [
        cell.ljust(width) if place < names else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(padded).rstrip()


def _counts(each: UsageSum) -> dict[str, int]:
    return {name: getattr(each, name) for name in _COUNTS}


def _plus(one: UsageSum, other: UsageSum) -> UsageSum:
    counts = {name: getattr(one, name) + getattr(other, name) for name in _COUNTS}
    return replace(one, **counts)
