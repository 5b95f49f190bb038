"""The record of a run, run.json: the truth from which every view is made."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from hxp_harness.errors import UsageError
from hxp_harness.gates.outcome import Effect
from hxp_harness.report.files import write_whole
from hxp_harness.target import Evidence

RECORD_FILE = "run.json"
RECORD_HASH_FILE = "run.json.sha256"  # as sha256sum writes it, and reads it back with -c
TRACES_FILE = "traces.parquet"
TRACES_PART_FILE = "traces.part"

Outcome = Literal["PASS", "FAIL", "INCONCLUSIVE", "INVALID"]
Facts = dict[str, JsonValue]


class _Part(BaseModel):
    """Frozen and strict. A figure that is unknown or unbounded is null: JSON has no infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, ser_json_inf_nan="null")


class Numbers(_Part):
    """Mean and percentiles of a metric; null where there are too few samples, or too many failures, to tell."""

    mean: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


class Figures(Numbers):
    """A metric over all measured requests, in base units (s, rps, tokens/s, ratio, tokens).

    An observed time is an interval: the figures are those of its upper ends, and `lo` has those of its lower ones.
    """

    unit: str
    n: int = Field(ge=0)
    low: float | None = Field(default=None, description="lower confidence bound of the gated statistic")
    high: float | None = Field(default=None, description="upper confidence bound of the gated statistic")
    lo: Numbers = Numbers()


class GateResult(_Part):
    """What became of one gate. Values are in `unit`, a base unit."""

    text: str = Field(description="the sentence, as the profile has it")
    metric: str
    statistic: str = Field(default="value", description="p95, p99, mean; value where the metric is one number a run")
    operator: str = "<="
    unit: str
    outcome: Outcome
    limit: float
    guard: float | None = Field(default=None, description="where the confidence bound must stop for a PASS")
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = Field(default=0, ge=0)
    estimates: tuple[tuple[float | None, float | None], ...] = Field(
        default=(), description="one a replicate: the statistic of the lower and of the upper ends of what was observed"
    )
    sentence: str = ""
    detectable: float | None = Field(default=None, description="smallest distance from the limit, as a ratio of it")
    needed: int | None = Field(default=None, description="further replicates that would decide")
    needed_minutes: float | None = Field(default=None, description="how long those would take")
    effect: Effect = Field(default=Effect.DECIDE, description="warn: does not count for the verdict")
    scope: str = Field(default="", description="the conditions on the requests it is about; empty: all")


class CheckResult(_Part):
    """One condition of a valid measurement."""

    name: str
    outcome: Literal["ok", "failed", "not_proven"]
    sentence: str = ""


class Replicate(_Part):
    """One of the independent repetitions: `started_s` and `ended_s` count from the run's t0."""

    index: int = Field(ge=0)
    n: int = Field(ge=0, description="measured requests")
    errors: int = Field(default=0, ge=0)
    started_s: float | None = None
    ended_s: float | None = None
    metrics: dict[str, Figures] = Field(default_factory=dict)
    telemetry: dict[str, Figures] = Field(default_factory=dict)


class Certificates(_Part):
    """What the instrument showed against a server of known timing, before and after the run; null: not made."""

    before: Facts | None = None
    after: Facts | None = None


class Record(_Part):
    """All that is known of a run, but for the traces beside it."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    id: str
    started: str = Field(description="ISO 8601, UTC")
    verdict: Outcome
    reasons: tuple[str, ...] = ()
    evidence: Evidence
    metrics: dict[str, Figures] = Field(default_factory=dict)
    gates: tuple[GateResult, ...] = ()
    checks: tuple[CheckResult, ...] = ()
    replicates: tuple[Replicate, ...] = ()
    certificate: Certificates = Certificates()
    environment: Facts = Field(default_factory=dict)
    profile: Facts = Field(default_factory=dict, description="resolved, in base units")
    load: Facts = Field(default_factory=dict, description="what the load generator says of itself")
    server: Facts = Field(default_factory=dict, description="what the server's own counters counted")
    telemetry: dict[str, Figures] = Field(
        default_factory=dict, description="what server and GPU said of themselves every second, over the measured time"
    )
    unknown: tuple[str, ...] = Field(default=(), description="provenance that the run does not know, by name")
    files: dict[str, str] = Field(default_factory=dict, description="SHA-256 of each file that the verdict stands on")


def record_schema() -> dict[str, JsonValue]:
    """Return the JSON Schema of run.json."""
    schema: dict[str, JsonValue] = Record.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def write_record(folder: Path, record: Record) -> Path:
    """Write run.json and its hash into `folder`, whole or not at all; raise InvalidRun when the disk is full."""
    tree = record.model_dump(mode="json", by_alias=True)
    text = json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    written = write_whole(folder / RECORD_FILE, text)
    hashed = hashlib.sha256(written.read_bytes()).hexdigest()
    write_whole(folder / RECORD_HASH_FILE, f"{hashed}  {RECORD_FILE}\n")
    return written


def read_record(folder: Path) -> Record:
    """Return the record in `folder`; raise UsageError that names the file and what to type next."""
    file = folder / RECORD_FILE
    again = f"hxp judge {folder} writes it again from the traces"
    try:
        tree = json.loads(file.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
        return Record.model_validate(tree)
    except FileNotFoundError:
        raise UsageError(f"no {RECORD_FILE} in {folder}", hint=_way_to_a_record(folder, again)) from None
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "top"
        raise UsageError(f"{file} is not a record of this version: {where}: {first['msg']}", hint=again) from None
    except ValueError as error:
        raise UsageError(f"{file} is damaged: {error}", hint=again) from None


def _way_to_a_record(folder: Path, again: str) -> str:
    if (folder / TRACES_FILE).exists() or (folder / TRACES_PART_FILE).exists():
        return again
    return "give the folder of a run; hxp perf --model NAME makes one"


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")
