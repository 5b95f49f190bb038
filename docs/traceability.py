"""Writes docs/reference/traceability.md from docs/traceability.yaml: python docs/traceability.py"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import yaml

DOCS = Path(__file__).parent
SOURCE = DOCS / "traceability.yaml"
PAGE = DOCS / "reference" / "traceability.md"
_HEAD = """\
# Traceability

What the founding document names, and where it is. Made from `docs/traceability.yaml` by `python docs/traceability.py`.
A test fails when a name is missing, when a path does not exist, or when this page is older than its source.

"""


class Entry(TypedDict, total=False):
    """One name: where its code, tests and page are, and what of it is only planned, with the issue."""

    code: list[str]
    tests: list[str]
    page: str
    planned: str


Groups = dict[str, dict[str, Entry]]


def read(file: Path = SOURCE) -> Groups:
    """Return the entries of `file` by group and name."""
    groups: Groups = yaml.safe_load(file.read_text(encoding="utf-8"))
    return groups


def page(groups: Groups) -> str:
    """Return the Markdown page: what is planned first, then one table a group."""
    waiting = [
        (name, entry["planned"]) for rows in groups.values() for name, entry in rows.items() if "planned" in entry
    ]
    parts = [_HEAD, "## Planned\n\n", _table(("name", "what is planned"), waiting)]
    for group, rows in groups.items():
        cells = [
            (name, _paths(row.get("code")), _paths(row.get("tests")), _link(row), _state(row))
            for name, row in rows.items()
        ]
        parts += [f"\n## {group}\n\n", _table(("name", "code", "tests", "page", ""), cells)]
    return "".join(parts)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _paths(paths: list[str] | None) -> str:
    return "<br>".join(f"`{path}`" for path in paths or [])


def _link(row: Entry) -> str:
    if "page" not in row:
        return ""
    path = row["page"]
    if not path.startswith("docs/"):
        return f"`{path}`"
    return f"[{Path(path).stem}]({os.path.relpath(path, 'docs/reference')})"


def _state(row: Entry) -> str:
    if "planned" not in row:
        return ""
    return "in part" if {"code", "tests", "page"} <= row.keys() else "planned"


if __name__ == "__main__":
    PAGE.write_text(page(read()), encoding="utf-8")
    print(PAGE)
