"""A gate: one sentence as engineers write it, `e2e p95 <= 2000 ms`, read strictly."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from hxp_harness.errors import UsageError, nearest
from hxp_harness.gates.facts import Asked
from hxp_harness.metrics.definitions import METRICS, Demand, Kind, Metric
from hxp_harness.metrics.summary import needed_samples
from hxp_harness.units import UNITS, example, format_quantity

STATISTICS = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
OPERATORS = ("<=", "<", ">=", ">")
_MEANT = {"=<": "<=", "≤": "<=", "=>": ">=", "≥": ">=", "=": "<=", "==": "<=", "<<": "<", ">>": ">"}
_WORD = re.compile(r"\s*(?P<word>[^\s<>=≤≥!]+)")
_OPERATOR = re.compile(r"\s*(?P<word>[<>=≤≥!]+)")
_NUMBER = re.compile(r"\s*(?P<word>[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?)")
DEFAULT_ERROR_GATE = "error_rate <= 0.1 %"


@dataclass(frozen=True, slots=True)
class Gate:
    """A limit on one statistic of one metric; `limit` in the base unit. `str()` is a sentence that reads back as it."""

    metric: str
    statistic: str  # a key of STATISTICS, "mean", or empty for a rate or a ratio
    operator: str  # one of OPERATORS
    limit: float
    text: str  # as it was written, single-spaced

    def __str__(self) -> str:
        return self.text

    @property
    def row(self) -> Metric:
        return METRICS[self.metric]

    @property
    def upper(self) -> bool:
        """Whether the limit is the largest value allowed (<=, <), not the smallest."""
        return self.operator.startswith("<")

    @property
    def strict(self) -> bool:
        return len(self.operator) == 1

    @property
    def quantile(self) -> float | None:
        return STATISTICS.get(self.statistic)


def parse_gate(text: str) -> Gate:
    """Read one sentence: metric, statistic where the metric has one, operator, number, unit.

    Raises UsageError that points at the column, with the nearest right spelling.
    """
    words = _Words(text)
    name, at = words.take(_WORD, "a metric", "for example e2e p95 <= 2000 ms")
    if name not in METRICS:
        words.refuse(at, f"unknown metric {name!r}", nearest(name, _gateable()))
    metric = METRICS[name]
    if metric.about == "harness":
        hint = f"it is checked in every run; gates may be on: {', '.join(_gateable())}"
        words.refuse(at, f"{name} is about the harness, not about the service", hint)
    statistic = _statistic(words, metric)
    operator = _operator(words, metric)
    number, number_at = words.take(_NUMBER, "a number", f"for example {example(metric.dimension)}")
    limit = float(number) * _factor(words, metric)
    _check_limit(words, number_at, metric, limit)
    return Gate(name, statistic, operator, limit, " ".join(text.split()))


def parse_gates(texts: Iterable[str]) -> tuple[Gate, ...]:
    """Read all gates of a profile and add `error_rate <= 0.1 %` where none limits errors: errors never buy a PASS."""
    gates = [parse_gate(text) for text in texts]
    seen: dict[tuple[str, str, bool], Gate] = {}
    for gate in gates:
        key = (gate.metric, gate.statistic, gate.upper)
        if key in seen:
            raise UsageError(f"two gates limit the same thing: {seen[key]} and {gate}", hint="keep one of them")
        seen[key] = gate
    if not any(gate.metric == "error_rate" for gate in gates):
        gates.append(parse_gate(DEFAULT_ERROR_GATE))
    return tuple(gates)


def check_supported(gate: Gate, asked: Asked) -> None:
    """Raise UsageError when no run of this size and contract could ever decide the gate."""
    if gate.row.streaming and not asked.stream:
        raise UsageError(f"{gate}: {gate.metric} is undefined without streaming", hint="gate e2e, or set stream: true")
    if gate.quantile is not None:
        per_request = max(asked.output_tokens - 1, 0) if gate.metric == "itl" else 1
        samples, needed = asked.requests * per_request, needed_samples(gate.quantile)
        if samples < needed:
            raise UsageError(
                f"{gate}: {samples} samples a replicate cannot tell a {gate.statistic}, which needs {needed}",
                hint=_smaller_statistic(samples) or f"set replicates.requests to {needed} or more",
            )
    if gate.row.kind is Kind.RATE:
        offered = asked.offered(tokens=gate.metric == "output_throughput")
        if gate.limit > offered:
            most = format_quantity(offered, gate.row.dimension)
            raise UsageError(
                f"{gate}: the contract offers only {most}, so no run can show more",
                hint="raise contract.rate or lower the gate",
            )


def demands(gates: Sequence[Gate]) -> tuple[Demand, ...]:
    """Return the latency gates as limits on single requests: what goodput counts."""
    return tuple(
        Demand(gate.metric, gate.limit, gate.strict) for gate in gates if gate.row.dimension == "time" and gate.upper
    )


class _Words:
    """The sentence as far as it is read."""

    def __init__(self, text: str) -> None:
        self.text = "".join(" " if letter.isspace() else letter for letter in text).rstrip()
        self.at = 0

    def take(self, pattern: re.Pattern[str], wanted: str, hint: str) -> tuple[str, int]:
        """Return the next word of this kind and its column."""
        match = pattern.match(self.text, self.at)
        if match is None:
            self.refuse(self.next_at, f"expected {wanted}", hint)
        self.at = match.end()
        return match["word"], match.start("word")

    @property
    def next_at(self) -> int:
        rest = self.text[self.at :]
        return self.at + len(rest) - len(rest.lstrip()) if rest.strip() else len(self.text)

    def refuse(self, column: int, problem: str, hint: str) -> NoReturn:
        raise UsageError(f"{problem}, in the gate\n  {self.text}\n  {' ' * column}^", hint=hint)


def _gateable() -> list[str]:
    return [name for name, metric in METRICS.items() if metric.about == "server"]


def _statistic(words: _Words, metric: Metric) -> str:
    known = [*STATISTICS, "mean"] if metric.kind is Kind.SAMPLE else []
    if _OPERATOR.match(words.text, words.at) and not known:
        return ""
    statistic, at = words.take(_WORD, "a statistic" if known else "an operator", _sentence(metric))
    if not known:
        words.refuse(at, f"{metric.name} is one number and has no {statistic!r}", _sentence(metric))
    if statistic not in known:
        words.refuse(at, f"unknown statistic {statistic!r}", nearest(statistic, known))
    return statistic


def _operator(words: _Words, metric: Metric) -> str:
    fitting = {"lower": ("<=", "<"), "higher": (">=", ">"), "either": OPERATORS}[metric.better]
    operator, at = words.take(_OPERATOR, f"one of {', '.join(fitting)}", _sentence(metric))
    if operator not in OPERATORS:
        meant = _MEANT.get(operator, fitting[0])
        words.refuse(at, f"unknown operator {operator!r}", f"did you mean {meant!r}?")
    if operator not in fitting:
        words.refuse(at, f"{metric.name} is better when {metric.better}", f"did you mean {fitting[0]!r}?")
    return operator


def _factor(words: _Words, metric: Metric) -> float:
    fitting = [unit for unit, (dimension, _) in UNITS.items() if dimension == metric.dimension]
    unit, at = words.take(_WORD, "a unit", f"one of: {', '.join(fitting)}")
    if unit not in UNITS:
        words.refuse(at, f"unknown unit {unit!r}", nearest(unit, fitting))
    if unit not in fitting:
        words.refuse(at, f"{unit!r} is no unit of {metric.name}", f"one of: {', '.join(fitting)}")
    if words.at < len(words.text):
        words.refuse(words.next_at, "expected nothing more", "one gate a line")
    return UNITS[unit][1]


def _check_limit(words: _Words, column: int, metric: Metric, limit: float) -> None:
    if metric.dimension == "ratio":
        if not 0 <= limit <= 1:
            words.refuse(column, "a ratio lies between 0 % and 100 %", _sentence(metric))
        if limit == (0 if metric.better == "lower" else 1):
            words.refuse(column, "perfection cannot be shown by any number of requests", _sentence(metric))
    elif limit <= 0:
        words.refuse(column, "the limit must be above 0", _sentence(metric))


def _sentence(metric: Metric) -> str:
    statistic = " p95" if metric.kind is Kind.SAMPLE else ""
    operator = ">=" if metric.better == "higher" else "<="
    quantity = "99 %" if metric.name == "goodput" else example(metric.dimension)
    return f"for example {metric.name}{statistic} {operator} {quantity}"


def _smaller_statistic(samples: int) -> str:
    told = [name for name, q in STATISTICS.items() if needed_samples(q) <= samples]
    return f"{samples} samples can tell {told[-1]}" if told else ""
