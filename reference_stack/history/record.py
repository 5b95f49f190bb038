"""What of a run's folder the history needs, read as docs/reference/run-folder.md says: other keys are ignored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, AwareDatetime, BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from reference_stack.errors import SettingsError
from reference_stack.schemas.api.runs import Evidence, JudgedRun, Run, RunOutcome, RunVerdict

FILE = "run.json"


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Figure(_Part):
    """A metric in its base unit; a figure that is unknown or unbounded is None."""

    unit: str
    p95: FiniteFloat | None = None
    mean: FiniteFloat | None = None

    @property
    def typical(self) -> float | None:
        """The p95, or the mean where a metric has no percentiles."""
        return self.mean if self.p95 is None else self.p95


class Gate(_Part):
    metric: str
    outcome: RunOutcome
    sentence: str = ""


class Check(_Part):
    name: str
    outcome: Literal["ok", "failed", "not_proven"]
    sentence: str = ""


class Profile(_Part):
    name: str = ""
    title: str = ""
    service: str = ""


class Record(_Part):
    """A run as its folder tells it."""

    version: Literal[1] = Field(validation_alias=AliasChoices("schema", "version"))
    id: str
    started: AwareDatetime
    verdict: RunOutcome
    reasons: tuple[str, ...] = ()
    evidence: Evidence
    metrics: dict[str, Figure] = Field(default_factory=dict)
    gates: tuple[Gate, ...] = ()
    checks: tuple[Check, ...] = ()
    profile: Profile = Profile()

    def judged(self) -> JudgedRun:
        """Return what the database keeps of it. Raises ValidationError for what it does not take."""
        run = Run(
            id=self.id,
            started=self.started,
            profile=self.profile.name,
            service=self.profile.service,
            evidence=self.evidence,
            metrics={name: figure.typical for name, figure in self.metrics.items()},
        )
        return JudgedRun(run=run, verdict=RunVerdict(outcome=self.verdict, reasons=self.reasons, judged=self.started))


def read_runs(folder: Path) -> tuple[list[Record], list[str]]:
    """Return the runs whose folders are in `folder`, latest first, and a sentence for each that cannot be read.

    Raises SettingsError when there is no such folder.
    """
    if not folder.is_dir():
        raise SettingsError(f"there is no folder {folder}", hint="name the one that holds your runs: --runs DIR")
    found, problems = {}, []
    for file in sorted(folder.glob(f"*/{FILE}")):
        if file.parent.is_symlink():  # `latest` points at a run that is there by its own name
            continue
        try:
            record = Record.model_validate(json.loads(file.read_text(encoding="utf-8")))
            record.judged()
        except OSError as error:
            problems.append(f"{file}: {error.strerror}")
        except ValidationError as error:
            first = error.errors()[0]
            problems.append(f"{file}: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}")
        except ValueError as error:
            problems.append(f"{file}: {error}")
        else:
            found[record.id] = record
    return sorted(found.values(), key=lambda record: (record.started, record.id), reverse=True), problems
