"""Reads gates, strictly: `[warn|abort] metric [statistic] operator number unit [where condition {and condition}]`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from hxp_harness.errors import UsageError, nearest
from hxp_harness.gates.gate import STATISTICS, Gate
from hxp_harness.gates.outcome import Effect
from hxp_harness.gates.scope import COLUMNS, COMPARISONS, Condition
from hxp_harness.gates.sentence import Sentence
from hxp_harness.metrics.definitions import METRICS, Demand, Kind, Metric
from hxp_harness.units import UNITS, example

OPERATORS = ("<=", "<", ">=", ">")
DEFAULT_ERROR_GATE = "error_rate <= 0.1 %"
_MEANT = {"=<": "<=", "≤": "<=", "=>": ">=", "≥": ">=", "=": "<=", "==": "<=", "<<": "<", ">>": ">"}
_WORD = re.compile(r"\s*(?P<word>[^\s<>=≤≥!(),]+)")
_OPERATOR = re.compile(r"\s*(?P<word>[<>=≤≥!]+)")
_NUMBER = re.compile(r"\s*(?P<word>[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?)")
_TOKENS = re.compile(r"\s*(?P<word>\d+)(?![\w.])")


def parse_gate(text: str) -> Gate:
    """Read one sentence. Raises UsageError that points at the column, with the nearest right spelling."""
    words = Sentence(text)
    effect = next((one for one in (Effect.WARN, Effect.ABORT) if words.skip(one.value)), Effect.DECIDE)
    start = words.next_at
    metric = _metric(words)
    own_demands = _demands(words) if words.skip("(") else None
    if own_demands is not None and metric.name != "goodput":
        words.refuse(start, f"{metric.name} takes no limits in brackets", "only goodput does")
    statistic = _statistic(words, metric)
    operator, limit = _limit(words, metric)
    scope = _scope(words, start, metric) if words.skip("where") else ()
    if not words.done:
        words.refuse(words.next_at, "expected nothing more", "one gate a line; `where` names the requests it is about")
    gate = Gate(metric.name, statistic, operator, limit, " ".join(text.split()), effect, scope, own_demands)
    if effect is Effect.ABORT and not gate.counts_requests:
        hint = "gate a percentile, error_rate or goodput: single requests tell those while the run goes on"
        words.refuse(start, f"{f'{metric.name} {statistic}'.strip()} cannot abort a run", hint)
    return gate


def parse_gates(texts: Iterable[str]) -> tuple[Gate, ...]:
    """Read all gates of a profile and add `error_rate <= 0.1 %` where none limits errors: errors never buy a PASS."""
    gates = [parse_gate(text) for text in texts]
    seen: dict[tuple[object, ...], Gate] = {}
    for gate in gates:
        key = (gate.metric, gate.statistic, gate.upper, gate.scope, gate.own_demands, gate.decides)
        if key in seen:
            raise UsageError(f"two gates limit the same thing: {seen[key]} and {gate}", hint="keep one of them")
        seen[key] = gate
    if not any(gate.metric == "error_rate" and gate.decides and not gate.scope for gate in gates):
        gates.append(parse_gate(DEFAULT_ERROR_GATE))
    return tuple(gates)


def _gateable() -> list[str]:
    return [name for name, metric in METRICS.items() if metric.about == "server"]


def _metric(words: Sentence) -> Metric:
    name, at = words.take(_WORD, "a metric", "for example e2e p95 <= 2000 ms")
    if name not in METRICS:
        words.refuse(at, f"unknown metric {name!r}", nearest(name, [*_gateable(), Effect.WARN, Effect.ABORT]))
    metric = METRICS[name]
    if metric.about == "harness":
        hint = f"it is checked in every run; gates may be on: {', '.join(_gateable())}"
        words.refuse(at, f"{name} is about the harness, not about the service", hint)
    return metric


def _demands(words: Sentence) -> tuple[Demand, ...]:
    """Read the limits in brackets: each a latency metric, an operator, a number and a unit."""
    found: list[Demand] = []
    while True:
        at = words.next_at
        metric = _metric(words)
        if metric.dimension != "time":
            words.refuse(at, f"{metric.name} is no latency of a request", "for example goodput(ttft <= 500 ms) >= 99 %")
        operator, limit = _limit(words, metric, single=True)
        found.append(Demand(metric.name, limit, strict=len(operator) == 1))
        if len({demand.metric for demand in found}) < len(found):
            words.refuse(at, f"{metric.name} is limited twice", "keep one of them")
        if words.skip(")"):
            return tuple(found)
        if not words.skip(","):
            words.refuse(words.next_at, "expected , or )", "for example goodput(ttft <= 500 ms, tpot <= 30 ms) >= 99 %")


def _statistic(words: Sentence, metric: Metric) -> str:
    known = [*STATISTICS, "mean"] if metric.kind is Kind.SAMPLE else []
    if _OPERATOR.match(words.text, words.at) and not known:
        return ""
    statistic, at = words.take(_WORD, "a statistic" if known else "an operator", _sentence(metric))
    if not known:
        words.refuse(at, f"{metric.name} is one number and has no {statistic!r}", _sentence(metric))
    if statistic not in known:
        words.refuse(at, f"unknown statistic {statistic!r}", nearest(statistic, known))
    return statistic


def _limit(words: Sentence, metric: Metric, *, single: bool = False) -> tuple[str, float]:
    """Read operator, number and unit; `single` says that they limit single requests, which have no statistic."""
    example_ = f"for example {metric.name} <= {example(metric.dimension)}" if single else _sentence(metric)
    fitting = {"lower": ("<=", "<"), "higher": (">=", ">"), "either": OPERATORS}[metric.better]
    operator, at = words.take(_OPERATOR, f"one of {', '.join(fitting)}", example_)
    if operator not in OPERATORS:
        words.refuse(at, f"unknown operator {operator!r}", f"did you mean {_MEANT.get(operator, fitting[0])!r}?")
    if operator not in fitting:
        words.refuse(at, f"{metric.name} is better when {metric.better}", f"did you mean {fitting[0]!r}?")
    number, number_at = words.take(_NUMBER, "a number", f"for example {example(metric.dimension)}")
    limit = float(number) * _factor(words, metric)
    _check_limit(words, number_at, metric, limit)
    return operator, limit


def _factor(words: Sentence, metric: Metric) -> float:
    fitting = [unit for unit, (dimension, _) in UNITS.items() if dimension == metric.dimension]
    unit, at = words.take(_WORD, "a unit", f"one of: {', '.join(fitting)}")
    if unit not in UNITS:
        words.refuse(at, f"unknown unit {unit!r}", nearest(unit, fitting))
    if unit not in fitting:
        words.refuse(at, f"{unit!r} is no unit of {metric.name}", f"one of: {', '.join(fitting)}")
    return UNITS[unit][1]


def _check_limit(words: Sentence, column: int, metric: Metric, limit: float) -> None:
    if metric.dimension == "ratio":
        if not 0 <= limit <= 1:
            words.refuse(column, "a ratio lies between 0 % and 100 %", _sentence(metric))
        if limit == (0 if metric.better == "lower" else 1):
            words.refuse(column, "perfection cannot be shown by any number of requests", _sentence(metric))
    elif limit <= 0:
        words.refuse(column, "the limit must be above 0", _sentence(metric))


def _scope(words: Sentence, start: int, metric: Metric) -> tuple[Condition, ...]:
    if metric.kind is Kind.RATE:
        words.refuse(
            start, f"{metric.name} is a rate of all requests and takes no `where`", "gate a latency or a ratio"
        )
    conditions = [_condition(words)]
    while words.skip("and"):
        conditions.append(_condition(words))
    return tuple(conditions)


def _condition(words: Sentence) -> Condition:
    hint = "for example where prompt_tokens <= 512 and tag = gold"
    subject, at = words.take(_WORD, f"one of {', '.join(COLUMNS)}", hint)
    if subject not in COLUMNS:
        words.refuse(at, f"no request has a {subject!r}", nearest(subject, COLUMNS))
    fitting = ("=",) if subject == "tag" else COMPARISONS
    comparison, at = words.take(_OPERATOR, f"one of {', '.join(fitting)}", hint)
    if comparison not in fitting:
        meant = "=" if comparison == "==" else _MEANT.get(comparison, fitting[0])
        words.refuse(at, f"{subject} cannot be compared by {comparison!r}", f"did you mean {meant!r}?")
    if subject == "tag":
        return Condition(subject, comparison, words.take(_WORD, "the name of a tag", hint)[0])
    return Condition(subject, comparison, int(words.take(_TOKENS, "a whole number of tokens", hint)[0]))


def _sentence(metric: Metric) -> str:
    statistic = " p95" if metric.kind is Kind.SAMPLE else ""
    operator = ">=" if metric.better == "higher" else "<="
    quantity = "99 %" if metric.name == "goodput" else example(metric.dimension)
    return f"for example {metric.name}{statistic} {operator} {quantity}"
