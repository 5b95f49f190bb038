"""Sentences about gates, for people who never took statistics."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hxp_harness.gates.evaluate import Reading, met, worth_enough
from hxp_harness.gates.outcome import Outcome
from hxp_harness.gates.prospect import Plan
from hxp_harness.gates.shares import HEADROOM
from hxp_harness.metrics.definitions import Kind
from hxp_harness.units import format_quantity


def quantity(value: float, reading: Reading) -> str:
    return "infinite" if math.isinf(value) else format_quantity(value, reading.gate.row.dimension)


def subject(reading: Reading) -> str:
    """Return how the statistic is called in a sentence."""
    gate = reading.gate
    about = f" of requests with {' and '.join(map(str, gate.scope))}" if gate.scope else ""
    return f"{gate.metric} {gate.statistic}".strip() + about


@dataclass(frozen=True, slots=True)
class Outlook:
    """What would decide an undecided gate, and when one failed early: after so many requests."""

    more: int | None = None
    minutes_each: float = 0.0  # of a replicate
    plan: Plan | None = None
    failed_after: int | None = None


def gate_sentence(reading: Reading, outcome: Outcome, outlook: Outlook) -> str:
    """Say what was seen, how sure it is, and what follows."""
    gate, interval = reading.gate, reading.interval
    limit, bound = quantity(gate.limit, reading), interval.high if gate.upper else interval.low
    seen = (
        f"{subject(reading)} was {quantity(reading.estimate, reading)} over {counted(len(reading.values), 'replicate')}"
    )
    if outcome is Outcome.FAIL and outlook.failed_after is not None:
        return (
            f"{subject(reading)} breaks the limit of {limit}: certain after {outlook.failed_after} requests, of which "
            f"far more were over it than it allows (a false alarm in at most 1 of 1000 such runs)."
        )
    if len(reading.values) < 2 and outcome is not Outcome.FAIL:
        return (
            f"{subject(reading)} cannot be told from {len(reading.values)} complete replicate(s): it takes 2 or more."
        )
    side = "at most" if gate.upper else "at least"
    if outcome is Outcome.PASS:
        return f"{seen}; the true value is {side} {quantity(bound, reading)} (99 % sure), {_clears(reading)}."
    if outcome is Outcome.FAIL:
        worse, other = ("at least", interval.low) if gate.upper else ("at most", interval.high)
        sure = f"the true value is {worse} {quantity(other, reading)} (99 % sure)"
        return f"{seen}; {sure}, which breaks the limit of {limit}."
    return f"{seen}; {_undecided(reading, outlook)}"


def _undecided(reading: Reading, outlook: Outlook) -> str:
    if met(reading):
        bound = reading.interval.high if reading.gate.upper else reading.interval.low
        side = "at most" if reading.gate.upper else "at least"
        return f"the true value is {side} {quantity(bound, reading)} so far, but a PASS needs every replicate."
    if not worth_enough(reading):
        return _too_few(reading, outlook.minutes_each) + _advice(reading, outlook)
    text = f"the true value may lie anywhere from {_range(reading)}, which does not decide {_against(reading)}."
    return text + _advice(reading, outlook)


def _too_few(reading: Reading, minutes_each: float) -> str:
    shares = reading.shares
    if shares is None:
        return ""
    size = shares.worth.size(reading.alpha)
    if shares.worth.n < shares.least_n:
        have, n = len(reading.values), shares.worth.n
        more = math.ceil(have * shares.least_n / n) - have
        values = "gaps between tokens" if reading.gate.metric == "itl" else "requests"
        return (
            f"but {n:,} {values} are too few to have met a rare stall, which makes all requests in flight slow at "
            f"once: {reading.gate.statistic or reading.gate.metric} needs {shares.least_n:,}, which is "
            f"{counted(more, 'replicate')} more (about {_minutes(more * minutes_each)})."
        )
    return (
        f"but slow requests come together, so {shares.worth.n} values say no more than {size:.0f} independent ones, "
        f"and {reading.gate.statistic} takes {shares.least:.0f}."
    )


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _minutes(minutes: float) -> str:
    return "a minute" if minutes < 1.5 else f"{minutes:.0f} min"


def _clears(reading: Reading) -> str:
    if reading.gate.row.dimension == "time":
        guard = 1 - reading.pass_limit / reading.limit
        return f"at least {guard:.0%} below the limit of {quantity(reading.limit, reading)}"
    return f"within the limit of {quantity(reading.limit, reading)}"


def _planned(plan: Plan | None) -> str:
    if plan is None:
        return ""
    if not plan.sure:
        return f" To show {HEADROOM:.0%} of headroom would take more than {plan.replicates} replicates."
    runs = f" {plan.replicates} replicates in all pass a service that lies {HEADROOM:.0%} within its limit"
    return f"{runs}, in 8 of 10 runs."


def _range(reading: Reading) -> str:
    floor = 0.0 if reading.interval.low == -math.inf else reading.interval.low
    return f"{quantity(floor, reading)} to {quantity(reading.interval.high, reading)}"


def _against(reading: Reading) -> str:
    if reading.pass_limit != reading.limit:
        wanted = quantity(reading.pass_limit, reading)
        return f"against the limit of {quantity(reading.limit, reading)} (a PASS needs {wanted} or less)"
    return f"against the limit of {quantity(reading.limit, reading)}"


def _advice(reading: Reading, outlook: Outlook) -> str:
    plan = outlook.plan
    if plan is not None and not plan.seen:
        number = f"{plan.replicates} replicates (about {_minutes(plan.replicates * outlook.minutes_each)})"
        return f" The run met too few slow stretches to plan from: {number} are the next step."
    if outlook.more is not None:
        number = counted(outlook.more, "more replicate")
        text = (
            f" If it goes on like this, {number} (about {_minutes(outlook.more * outlook.minutes_each)}) would decide."
        )
        return text + _planned(plan)
    if reading.gate.row.kind is Kind.SAMPLE and reading.pass_limit < reading.estimate <= reading.limit:
        return " It lies within the guard band just under the limit, where no number of replicates decides."
    return " More of the same would not decide it."
