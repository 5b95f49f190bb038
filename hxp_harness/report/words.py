"""How a record is said to people: the headline, the tables and the commands that every view shows."""

from __future__ import annotations

from dataclasses import dataclass

from hxp_harness.gates.outcome import Effect
from hxp_harness.report.record import CheckResult, Figures, GateResult, Outcome, Record
from hxp_harness.report.text import one_line
from hxp_harness.target import Evidence
from hxp_harness.units import BASE_UNIT, format_quantity

UNKNOWN = "–"  # noqa: RUF001 - the dash of an empty cell

MEANING: dict[Outcome, str] = {
    "PASS": "Every gate holds, with its whole confidence interval inside the guard band.",
    "FAIL": "At least one gate is broken beyond doubt.",
    "INCONCLUSIVE": "The run could not decide: an interval straddles its limit. This is not a pass.",
    "INVALID": "The measurement cannot be trusted, so nothing is judged. This is not a pass.",
}
EVIDENCE: dict[Evidence, str] = {
    Evidence.MEASURED: "A real engine answered, with the model that it was given.",
    Evidence.TINY: "A real engine answered with a toy model: this says nothing about the real model's speed.",
    Evidence.SIMULATED: "A simulation answered: this says nothing about hardware.",
}
_DUMMY = (
    "A real engine answered with random weights of the model's true size: of speed this says much, of answers nothing."
)
_DIMENSIONS = {unit: dimension for dimension, unit in BASE_UNIT.items()}


@dataclass(frozen=True, slots=True)
class GateRow:
    """A gate as a table shows it."""

    text: str
    outcome: Outcome
    estimate: str
    interval: str
    limit: str
    n: str
    sentence: str
    warns: bool = False  # does not hold, and does not count


@dataclass(frozen=True, slots=True)
class MetricRow:
    """A metric as a table shows it."""

    name: str
    n: str
    cells: tuple[str, ...]  # mean, p50, p95, p99
    interval: str


def value(number: float | None, unit: str) -> str:
    """Write a base-unit figure as people read it; a dash where it is unknown or unbounded."""
    if number is None:
        return UNKNOWN
    dimension = _DIMENSIONS.get(unit)
    return format_quantity(number, dimension) if dimension else f"{number:.4g} {unit}".rstrip()


def interval(low: float | None, high: float | None, unit: str) -> str:
    """Write confidence bounds in words; where one is missing the run bounds the value from one side only."""
    if low is None and high is None:
        return UNKNOWN
    if low is None or high is None:
        return f"at most {value(high, unit)}" if low is None else f"at least {value(low, unit)}"
    return f"{value(low, unit)} to {value(high, unit)}"


def headline(record: Record) -> str:
    """Return the verdict's reason as one sentence."""
    if record.reasons:
        return one_line(record.reasons[0])
    return next((one_line(gate.sentence) for gate in deciding(record)), MEANING[record.verdict])


def deciding(record: Record) -> list[GateResult]:
    """Return the gates that made the verdict what it is and say so."""
    return [gate for gate in record.gates if _decided(gate, record) and gate.sentence]


def _decided(gate: GateResult, record: Record) -> bool:
    return gate.outcome == record.verdict != "PASS" and gate.effect is not Effect.WARN


def title(record: Record) -> str:
    """Return the profile's title, or what comes nearest."""
    for key in ("title", "name"):
        if text := record.profile.get(key):
            return one_line(str(text))
    return one_line(record.id)


def evidence_label(record: Record) -> str:
    return record.evidence.value.upper()


def evidence(record: Record) -> str:
    """Return what the verdict can stand for, as a sentence."""
    target = record.environment.get("target")
    dummy = isinstance(target, dict) and target.get("weights") == "dummy"
    return _DUMMY if dummy and record.evidence is Evidence.MEASURED else EVIDENCE[record.evidence]


def standing(gate: GateResult, record: Record) -> Outcome:
    """Return what a gate counts for: nothing, in a run that cannot be trusted."""
    return "INVALID" if record.verdict == "INVALID" else gate.outcome


def warns(gate: GateResult, record: Record) -> bool:
    """Whether the gate is not met, and that is only a warning."""
    return gate.effect is Effect.WARN and standing(gate, record) in {"FAIL", "INCONCLUSIVE"}


def gate_rows(record: Record) -> list[GateRow]:
    return [
        GateRow(
            text=one_line(gate.text),
            outcome=standing(gate, record),
            estimate=value(gate.estimate, gate.unit),
            interval=interval(gate.low, gate.high, gate.unit),
            limit=value(gate.limit, gate.unit),
            n=f"{gate.n:,}".replace(",", " "),
            sentence=gate_sentence(gate),
            warns=warns(gate, record),
        )
        for gate in record.gates
    ]


def gate_sentence(gate: GateResult) -> str:
    """Return what the judge said of the gate, and for an undecided one how small a difference the run could see."""
    said = one_line(gate.sentence)
    if gate.outcome != "INCONCLUSIVE" or gate.detectable is None:
        return said
    return f"{said} This run would have seen a distance of {_share(gate.detectable)} from the limit.".strip()


def more_reasons(record: Record) -> list[str]:
    """Return the reasons beside the headline that no gate's sentence repeats."""
    told = {one_line(gate.sentence) for gate in record.gates}
    return [line for reason in record.reasons[1:] if (line := one_line(reason)) not in told]


def metric_rows(metrics: dict[str, Figures]) -> list[MetricRow]:
    return [
        MetricRow(
            name=name,
            n=f"{figures.n:,}".replace(",", " "),
            cells=tuple(value(f, figures.unit) for f in (figures.mean, figures.p50, figures.p95, figures.p99)),
            interval=interval(figures.low, figures.high, figures.unit),
        )
        for name, figures in metrics.items()
    ]


def unknown(record: Record) -> str:
    """Return what the run does not know of its own making, as a sentence; nothing where it knows all."""
    if not record.unknown:
        return ""
    return f"Not known of this run, so not to be repeated exactly: {one_line(', '.join(record.unknown))}."


def check_word(check: CheckResult) -> str:
    return check.outcome.replace("_", " ")


def commands(run_dir: str) -> list[tuple[str, str]]:
    """Return what can be typed next, with what it does."""
    return [
        (f"hxp judge {run_dir}", "judge the stored traces again, with no traffic"),
        (f"hxp judge {run_dir} --gate 'e2e p95 <= 1500 ms'", "judge them under another gate"),
        (f"hxp explain {run_dir}", "say how the verdict came about"),
        (f"hxp report {run_dir}", "write these views again"),
    ]


def _share(ratio: float) -> str:
    """Write a ratio in percent as people do: 3.2 %, 41 %, 1145 %."""
    percent = ratio * 100
    return f"{percent:.0f} %" if percent >= 10 else f"{percent:.2g} %"
