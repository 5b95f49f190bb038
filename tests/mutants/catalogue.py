"""All mutants, one row each, and their table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.mutants.books import BOOKS
from tests.mutants.canary import CANARY
from tests.mutants.door import DOOR
from tests.mutants.instrument import INSTRUMENT
from tests.mutants.mutant import Mutant, Tried
from tests.mutants.runs import RUNS
from tests.mutants.wire import WIRE

SHORT: tuple[Mutant, ...] = (*WIRE, *CANARY, *INSTRUMENT, *BOOKS)  # what the tests try
MUTANTS: tuple[Mutant, ...] = (*SHORT, *DOOR, *RUNS)
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "mutants.md"
_HEAD = ("mutant", "breaks", "how it is made", "caught by", "what it said")
_MOST = 160  # characters of what was said


def table(found: Sequence[Tried]) -> str:
    """Return the mutants as a Markdown table."""
    rows = [_HEAD, ("---",) * len(_HEAD)]
    rows += [
        (one.mutant.name, one.mutant.breaks, one.mutant.how, f"`{one.mutant.caught_by}`", _cell(one)) for one in found
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(one: Tried) -> str:
    """Return one line of what was said, in which nothing is Markdown."""
    text = " ".join(((one.problem and f"NOT CAUGHT: {one.problem}") or one.broken).split())
    short = text if len(text) <= _MOST else f"{text[:_MOST]}..."
    return "".join(f"\\{sign}" if sign in "|`*_[]<>{}" else sign for sign in short)
