"""Sentences about gates, for people who never took statistics."""

from __future__ import annotations

import math

from hxp_harness.gates.evaluate import GUARD, Reading, clears, met
from hxp_harness.gates.outcome import Outcome
from hxp_harness.metrics.definitions import Kind
from hxp_harness.units import format_quantity


def quantity(value: float, reading: Reading) -> str:
    return "infinite" if math.isinf(value) else format_quantity(value, reading.gate.row.dimension)


def subject(reading: Reading) -> str:
    """Return how the statistic is called in a sentence."""
    gate = reading.gate
    return f"{gate.metric} {gate.statistic}".strip()


def gate_sentence(reading: Reading, outcome: Outcome, more: int | None, minutes: float | None) -> str:
    """Say what was seen, how sure it is, and what follows."""
    gate, interval = reading.gate, reading.interval
    limit, bound = quantity(gate.limit, reading), interval.high if gate.upper else interval.low
    seen = f"{subject(reading)} was {quantity(reading.estimate, reading)} over {len(reading.values)} replicates"
    if len(reading.values) < 2:
        return (
            f"{subject(reading)} cannot be told from {len(reading.values)} complete replicate(s): it takes 2 or more."
        )
    side = "at most" if gate.upper else "at least"
    if outcome is Outcome.PASS:
        return f"{seen}; the true value is {side} {quantity(bound, reading)} (99 % sure), {_clears(reading)}."
    if outcome is Outcome.FAIL:
        worse, other = ("at least", interval.low) if gate.upper else ("at most", interval.high)
        return f"{seen}; the true value is {worse} {quantity(other, reading)}, which breaks the limit of {limit}."
    if met(reading):
        return f"{seen}; the true value is {side} {quantity(bound, reading)} so far, but a PASS needs every replicate."
    if clears(reading):
        return (
            f"{seen}; but up to {reading.over:.2%} of values may lie beyond the limit of {limit} (99 % sure), and "
            f"{gate.statistic} allows {reading.over_allowed:.2%}."
        )
    text = f"{seen}; the true value may lie anywhere from {_range(reading)}, which does not decide {_against(reading)}."
    return text + _advice(reading, more, minutes)


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _minutes(minutes: float) -> str:
    return "a minute" if minutes < 1.5 else f"{minutes:.0f} min"


def _clears(reading: Reading) -> str:
    if reading.gate.row.dimension == "time":
        return f"at least {1 - GUARD:.0%} below the limit of {quantity(reading.gate.limit, reading)}"
    return f"within the limit of {quantity(reading.limit, reading)}"


def _range(reading: Reading) -> str:
    floor = 0.0 if reading.interval.low == -math.inf else reading.interval.low
    return f"{quantity(floor, reading)} to {quantity(reading.interval.high, reading)}"


def _against(reading: Reading) -> str:
    if reading.pass_limit != reading.limit:
        wanted = quantity(reading.pass_limit, reading)
        return f"against the limit of {quantity(reading.limit, reading)} (a PASS needs {wanted} or less)"
    return f"against the limit of {quantity(reading.limit, reading)}"


def _advice(reading: Reading, more: int | None, minutes: float | None) -> str:
    if more is not None and minutes is not None:
        return f" If it goes on like this, {counted(more, 'more replicate')} (about {_minutes(minutes)}) would decide."
    if reading.gate.row.kind is Kind.SAMPLE and reading.pass_limit < reading.estimate <= reading.limit:
        return " It lies within the guard band just under the limit, where no number of replicates decides."
    return " More of the same would not decide it."
