"""Every risk of the lists has a test or a reason, every mark is a risk, and the page says what the tests do."""

from __future__ import annotations

import runpy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PROGRAM = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "security.py"))
RISKS = {risk: name for risks in PROGRAM["LISTS"].values() for risk, name in risks.items()}
FOUND: Mapping[str, Sequence[Any]] = PROGRAM["promises"]()


def test_every_risk_has_a_test_or_a_reason() -> None:
    """Of the twenty risks none is forgotten: tests promise something about it, or the page says why they cannot."""
    assert len(RISKS) == 20
    assert [risk for risk in RISKS if not FOUND.get(risk) and risk not in PROGRAM["LEFT"]] == []


def test_every_mark_is_a_risk() -> None:
    """A mark with a misspelt risk does not vanish from the page."""
    assert FOUND.keys() - RISKS.keys() == set()
    assert PROGRAM["LEFT"].keys() - RISKS.keys() == set()


def test_every_marked_test_promises_something() -> None:
    """What stands on the page is the promise of a test, in its own words."""
    assert [one.place for many in FOUND.values() for one in many if not one.words] == []


def test_the_page_is_as_new_as_the_tests() -> None:
    """The page is what `python docs/security.py` writes."""
    assert PROGRAM["PAGE"].read_text(encoding="utf-8") == PROGRAM["page"](FOUND), "run: python docs/security.py"
