"""One mutant: a sound thing, broken in one way, and the check of the harness that has to catch it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hxp_harness.target import Target
from tests.mutants.middleman import Change


@dataclass(slots=True)
class Workshop:
    """What mutants are made of. `by_command`: run suites as a user does, in a process of their own."""

    front: Callable[[Change | None], AbstractContextManager[Target]]  # a model server, behind a middleman
    folder: Path  # for files
    by_command: bool = False
    kept: dict[object, Any] = field(default_factory=dict)  # what was measured once for several mutants


# What the check said of the broken thing (True) or of the sound one (False): nothing where all is well.
Trial = Callable[[Workshop, bool], str]


@dataclass(frozen=True, slots=True)
class Mutant:
    """`breaks` is the invariant or rule; `caught_by` the check, which `trial` runs; `says` a part of its words."""

    name: str
    breaks: str
    caught_by: str
    how: str
    trial: Trial
    says: str = ""


@dataclass(frozen=True, slots=True)
class Tried:
    """A mutant beside its sound twin: `sound` must be empty, `broken` must not."""

    mutant: Mutant
    sound: str
    broken: str

    @property
    def problem(self) -> str:
        """Why this mutant proves nothing, or was not caught; empty where all is as it should be."""
        if self.sound:
            return f"{self.mutant.caught_by} complains of the sound one: {self.sound}"
        if not self.broken:
            return f"{self.mutant.caught_by} does not catch it"
        if self.mutant.says not in self.broken:
            return f"{self.mutant.caught_by} does not say {self.mutant.says!r}: {self.broken}"
        return ""


def tried(mutant: Mutant, workshop: Workshop) -> Tried:
    """Run the check on the sound thing and on the broken one."""
    return Tried(mutant, mutant.trial(workshop, False), mutant.trial(workshop, True))
