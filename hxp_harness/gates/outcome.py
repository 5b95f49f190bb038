"""What judging ends in: outcomes, checks, results of gates, the verdict. Values only; all of them become JSON."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from hxp_harness.errors import ExitCode
from hxp_harness.units import BASE_UNIT


class Outcome(enum.StrEnum):
    """The four ends of a run; a single gate is never INVALID."""

    PASS = "PASS"  # noqa: S105 - a verdict, no password
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    INVALID = "INVALID"

    @property
    def exit_code(self) -> ExitCode:
        return ExitCode[self.name]


class Effect(enum.StrEnum):
    """What follows when a gate is broken."""

    DECIDE = "decide"  # the verdict
    ABORT = "abort"  # the verdict, and the load stops as soon as it looks broken
    WARN = "warn"  # nothing but a word in the report


class CheckOutcome(enum.StrEnum):
    """Whether one reason for distrust was looked for, and found."""

    OK = "ok"
    FAILED = "failed"  # the run is INVALID
    NOT_PROVEN = "not_proven"  # the source that would tell is missing


@dataclass(frozen=True, slots=True)
class Check:
    """One check of the measurement itself. `sentence` says what was seen, with the numbers."""

    name: str
    outcome: CheckOutcome
    sentence: str


@dataclass(frozen=True, slots=True)
class GateResult:
    """One gate, judged. Numbers are in `unit`, a base unit (s, rps, tokens/s, ratio, tokens); infinite is allowed.

    `low` and `high` bound the true value, each at the error rate of one side; `low` comes from the lower ends of the
    observed intervals and `high` from the upper ones. `values` holds (low end, high end) of the statistic in each
    replicate. `pass_limit` is where a bound must lie for a PASS: the limit with its guard band.
    """

    gate: str
    outcome: Outcome
    metric: str
    statistic: str  # p50 ... p99.9, mean, or empty for a rate or a ratio
    operator: str
    unit: str
    limit: float
    pass_limit: float
    estimate: float | None
    low: float | None
    high: float | None
    n: int  # requests behind the numbers
    values: tuple[tuple[float, float], ...]
    sentence: str
    detectable: float | None = None  # smallest distance from the limit that this run would see, as a share of the limit
    more_replicates: int | None = None  # what would decide an INCONCLUSIVE gate; None: more of the same would not
    more_minutes: float | None = None
    effect: Effect = Effect.DECIDE
    scope: str = ""  # the conditions on the requests it is about; empty: all

    @property
    def dimension(self) -> str:
        """The dimension of the numbers, as `hxp_harness.units` calls it."""
        return next(dimension for dimension, unit in BASE_UNIT.items() if unit == self.unit)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The end of a run. `reasons` are sentences for people, the decisive one first."""

    outcome: Outcome
    reasons: tuple[str, ...]
    gates: tuple[GateResult, ...]
    checks: tuple[Check, ...]
    replicates: int  # complete ones, which were judged
    replicates_planned: int

    @property
    def exit_code(self) -> ExitCode:
        return self.outcome.exit_code

    @property
    def distrusted(self) -> tuple[Check, ...]:
        """The checks that are not clean: failed, or not proven."""
        return tuple(check for check in self.checks if check.outcome is not CheckOutcome.OK)

    def to_dict(self) -> dict[str, object]:
        """Return JSON-able values; an infinite number becomes the text "inf" or "-inf", since JSON has none."""
        return {name: jsonable(value) for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, raw: Mapping[str, object]) -> Verdict:
        """Read back what `to_dict` wrote; raise KeyError, TypeError or ValueError when it is something else."""
        gates = tuple(_gate_result(item) for item in _mappings(raw["gates"]))
        checks = tuple(
            Check(str(item["name"]), CheckOutcome(str(item["outcome"])), str(item["sentence"]))
            for item in _mappings(raw["checks"])
        )
        return cls(
            outcome=Outcome(str(raw["outcome"])),
            reasons=tuple(str(reason) for reason in _sequence(raw["reasons"])),
            gates=gates,
            checks=checks,
            replicates=int(_number(raw["replicates"])),
            replicates_planned=int(_number(raw["replicates_planned"])),
        )


def jsonable(value: object) -> object:
    """Return `value` with tuples as lists and numbers that JSON lacks as text ("inf", "-inf", "nan")."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    return str(value) if isinstance(value, enum.StrEnum) else value


def _gate_result(raw: Mapping[str, object]) -> GateResult:
    def optional(name: str) -> float | None:
        return None if raw.get(name) is None else _number(raw[name])

    more = optional("more_replicates")
    pairs = [_sequence(pair) for pair in _sequence(raw["values"])]
    return GateResult(
        gate=str(raw["gate"]),
        outcome=Outcome(str(raw["outcome"])),
        metric=str(raw["metric"]),
        statistic=str(raw["statistic"]),
        operator=str(raw["operator"]),
        unit=str(raw["unit"]),
        limit=_number(raw["limit"]),
        pass_limit=_number(raw["pass_limit"]),
        estimate=optional("estimate"),
        low=optional("low"),
        high=optional("high"),
        n=int(_number(raw["n"])),
        values=tuple((_number(low), _number(high)) for low, high in pairs),
        sentence=str(raw["sentence"]),
        detectable=optional("detectable"),
        more_replicates=None if more is None else int(more),
        more_minutes=optional("more_minutes"),
        effect=Effect(str(raw.get("effect", Effect.DECIDE))),
        scope=str(raw.get("scope", "")),
    )


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(f"{value!r} is not a number")
    return float(value)


def _sequence(value: object) -> Sequence[object]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"{value!r} is not a list")
    return value


def _mappings(value: object) -> list[Mapping[str, object]]:
    items = []
    for item in _sequence(value):
        if not isinstance(item, Mapping):
            raise TypeError(f"{item!r} is not a mapping")
        items.append(item)
    return items
