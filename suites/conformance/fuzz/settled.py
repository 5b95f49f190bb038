"""Differences that stay, each with its reason and a request that shows it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

OURS = Path(__file__).with_name("settled.yaml")


@dataclass(frozen=True, slots=True)
class Settled:
    """One row: `difference` is a line as it is reported, * stands for anything; `example` shows it every time."""

    difference: str
    reason: str
    example: Any

    def covers(self, line: str) -> bool:
        return fnmatchcase(line, self.difference.replace("[", "[[]"))


def read(file: Path = OURS) -> list[Settled]:
    """Return the rows of `file`."""
    return [Settled(**row) for row in yaml.safe_load(file.read_text(encoding="utf-8")) or ()]


def left_over(lines: Iterable[str], rows: Sequence[Settled]) -> list[str]:
    """Return the lines that no row covers."""
    return [line for line in lines if not any(row.covers(line) for row in rows)]
