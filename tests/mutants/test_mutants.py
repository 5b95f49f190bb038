"""The short form of the session `mutants`: the same mutants and checks, called in this process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.mutants.catalogue import MUTANTS, PAGE, SHORT, table
from tests.mutants.mutant import Mutant, Tried, Workshop, tried
from tests.mutants.workshop import opened

pytestmark = pytest.mark.xdist_group("mutants")  # one workshop for all


@pytest.fixture(scope="module")
def workshop() -> Iterator[Workshop]:
    """One workshop for all mutants."""
    with opened(by_command=False) as found:
        yield found


@pytest.mark.parametrize("mutant", SHORT, ids=lambda mutant: mutant.name)
def test_every_mutant_is_caught(workshop: Workshop, mutant: Mutant) -> None:
    """The check that has to catch a mutant passes its sound twin and fails the mutant, in words of its own."""
    assert tried(mutant, workshop).problem == ""


def test_there_are_enough_and_each_has_its_own_name() -> None:
    """At least 45 mutants, no two of one name."""
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert len(SHORT) >= 45


def test_the_page_has_all_of_them() -> None:
    """The page that the session writes has a row for each mutant, with how it is made and what must catch it."""
    rows = [line.removesuffix(" |").split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines()]
    shown = [(row[0].removeprefix("| "), row[2], row[3]) for row in rows if len(row) == 5]

    assert shown[2:] == [(one.name, one.how, f"`{one.caught_by}`") for one in MUTANTS]


@pytest.mark.parametrize(
    ("sound", "broken", "problem"),
    [
        ("", "it is off by 3", ""),
        ("it is off", "it is off", "the check complains of the sound one: it is off"),
        ("", "", "the check does not catch it"),
        ("", "something else", "the check does not say 'off by': something else"),
    ],
)
def test_what_counts_as_caught(sound: str, broken: str, problem: str) -> None:
    """A mutant is caught where its twin passes and the words are the right ones, and the table says so if not."""
    mutant = Mutant("x", "I1", "the check", "how", lambda _, bad: broken if bad else sound, says="off by")
    one = Tried(mutant, sound, broken)

    assert one.problem == problem
    assert ("NOT CAUGHT" in table([one])) is bool(problem)
