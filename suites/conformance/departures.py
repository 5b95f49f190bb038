"""Where an engine is known to differ, and why: rows of data that become strict expected failures.

A row that matches no test, or whose test passes, fails the suite: an exception cannot outlive its reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import yaml

OURS = Path(__file__).with_name("departures.yaml")


@dataclass(frozen=True, slots=True)
class Departure:
    """One row: `test` is a test's name as pytest writes it, from its file's on; * stands for anything."""

    engine: str
    test: str
    reason: str

    def covers(self, item: pytest.Item) -> bool:
        name = f"{item.path.name}::{item.nodeid.partition('::')[2]}"
        # [ begins a set of letters in a pattern and the parameters in a test's name.
        return fnmatchcase(name, self.test.replace("[", "[[]"))


def read(file: Path, engine: str) -> list[Departure]:
    """Return the rows of `file` for `engine`; raise UsageError where a row is not whole."""
    try:
        rows = yaml.safe_load(file.read_text(encoding="utf-8")) or []
    except OSError as error:
        raise pytest.UsageError(f"cannot read the departures in {file}: {error.strerror}") from None
    for row in rows:
        if not isinstance(row, dict) or set(row) != {"engine", "test", "reason"} or not all(map(str, row.values())):
            raise pytest.UsageError(f"{file}: {row!r} must have engine, test and reason, and nothing else")
    return [Departure(**row) for row in rows if row["engine"] == engine]


def expect(rows: Sequence[Departure], items: Iterable[pytest.Item]) -> list[Departure]:
    """Mark the tests that `rows` cover as failing for the row's reason; return the rows that cover none."""
    found = set()
    for item in items:
        for row in rows:
            if row.covers(item):
                item.add_marker(pytest.mark.xfail(strict=True, raises=AssertionError, reason=row.reason))
                found.add(row)
    return [row for row in rows if row not in found]
