"""A performance run as the stack remembers it: what was run, what it showed, and every verdict it was given."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, FiniteFloat

Evidence = Literal["measured", "tiny", "simulated"]
RunOutcome = Literal["PASS", "FAIL", "INCONCLUSIVE", "INVALID"]
# PostgreSQL keeps no NUL in a text.
Text = Annotated[str, Field(max_length=2000, pattern=r"^[^\x00]*$")]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Run(_Part):
    """One run: `started` is aware; `metrics` has the p95 of each metric, or its value, in base units."""

    id: Name
    started: AwareDatetime
    profile: Text
    service: Text
    evidence: Evidence
    metrics: Mapping[Annotated[str, Field(max_length=100, pattern=r"^[a-z0-9_]+$")], FiniteFloat | None] = Field(
        default_factory=dict, max_length=200
    )


class RunVerdict(_Part):
    """What a run was judged, and when: judging again under other gates adds another."""

    outcome: RunOutcome
    reasons: tuple[Text, ...] = Field(default=(), max_length=100)
    judged: AwareDatetime

    def same_as(self, other: RunVerdict) -> bool:
        """Whether both say the same, whenever they said it."""
        return (self.outcome, self.reasons) == (other.outcome, other.reasons)


class JudgedRun(_Part):
    """A run with its latest verdict."""

    run: Run
    verdict: RunVerdict


def moment(judged: JudgedRun) -> tuple[datetime, str]:
    """Where a run stands in the history: by its start, then by its name."""
    return judged.run.started, judged.run.id
