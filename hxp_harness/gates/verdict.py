"""The decision: from traces, gates and facts to one of four outcomes, with its reasons."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping, Sequence

from hxp_harness.gates.checks import check_run
from hxp_harness.gates.course import course_of
from hxp_harness.gates.early import ALPHA_EARLY, EarlyJudge, complete_parts, parts_of
from hxp_harness.gates.effective import cuts_of
from hxp_harness.gates.evaluate import (
    Observed,
    Reading,
    bad_requests,
    met,
    observe,
    read_parts,
    read_replicates,
)
from hxp_harness.gates.facts import Asked, RunFacts
from hxp_harness.gates.gate import Gate
from hxp_harness.gates.interval import ALPHA, holm
from hxp_harness.gates.looks import Look, look_at, looks
from hxp_harness.gates.outcome import Check, CheckOutcome, Effect, GateResult, Outcome, Verdict
from hxp_harness.gates.prospect import detectable, more_replicates, plan
from hxp_harness.gates.saturation import mean_in_flight, saturation
from hxp_harness.gates.scope import within
from hxp_harness.gates.tripwire import tripped
from hxp_harness.gates.wording import Outlook, gate_sentence
from hxp_harness.metrics.definitions import Kind, Sample
from hxp_harness.metrics.table import TraceTable
from hxp_harness.trace import ErrorKind
from hxp_harness.units import BASE_UNIT

__all__ = ["Check", "CheckOutcome", "GateResult", "Outcome", "Verdict", "complete_replicates", "judge"]


def judge(table: TraceTable, gates: Sequence[Gate], facts: RunFacts) -> Verdict:
    """Decide a run.

    INVALID when the measurement cannot be trusted. FAIL when some gate is surely broken: each gate alone may err, so
    the chance of a false FAIL is shared out over the gates (Holm), or when the service does not keep up. PASS when
    every gate is surely met: that needs no sharing, since all of them must err together (intersection-union).
    Otherwise INCONCLUSIVE.
    """
    replicates = complete_replicates(table, facts)
    look = look_at(len(replicates), facts.asked.replicates)
    course = course_of(table, replicates, len(replicates) / facts.asked.replicates)
    readings = read_gates(
        table, gates, replicates, facts.asked, look or looks(facts.asked.replicates)[-1], course.settled
    )
    early, stopped_by = _looked_early(table, gates, facts.asked)
    overloaded = saturation(table, facts)
    results = _results(readings, early, look, facts, may_pass=not course.rises)
    checks = check_run(table, [gate for gate in gates if gate.decides], facts, course, saturated=bool(overloaded))
    outcome, reasons = _decide(results, checks, overloaded, _why_so_few(len(replicates), stopped_by, facts))
    return Verdict(outcome, tuple(reasons), results, tuple(checks), len(replicates), facts.asked.replicates)


def certain(table: TraceTable, gates: Sequence[Gate], facts: RunFacts, look: Look) -> bool:
    """Whether a run that is under way is decided at a look."""
    replicates = complete_replicates(table, facts)
    course = course_of(table, replicates, look.part)
    if course.change is not None or not course.ever:
        return False
    readings = read_gates(table, gates, replicates, facts.asked, look, course.settled)
    deciding = [reading for reading in readings if reading.gate.decides]
    return any(_fallen(deciding, look)) or (look.passes > 0 and not course.rises and all(map(met, deciding)))


def read_gates(
    table: TraceTable, gates: Sequence[Gate], replicates: Sequence[int], asked: Asked, look: Look, settled: int
) -> list[Reading]:
    """Read every gate off the complete replicates, from the index `settled` on, as carefully as the look asks for."""
    in_flight, whole = mean_in_flight(table), len(replicates) >= asked.replicates
    cuts = cuts_of(max(len(replicates), 1), asked.requests, in_flight)
    observed: list[list[Observed]] = [[] for _ in gates]
    alike = {_alike(gate): gate for gate in gates if gate.counts_requests}
    parts: dict[Hashable, list[Sample]] = {key: [] for key in alike}
    total = 0
    for number in replicates:
        rows = table.select(number).in_order()
        replicate = rows.rows(int((rows.index < settled).sum()), len(rows))
        size = len(replicate)
        if size == 0:
            continue
        total += size
        for gate, seen in zip(gates, observed, strict=True):
            seen.append(observe(gate, gates, table, replicate, asked))
        edges = list(itertools.pairwise(size * place // cuts for place in range(cuts + 1)))
        for key, gate in alike.items():
            parts[key] += [_values(gate, gates, replicate.rows(*edge)) for edge in edges]
    return [
        read_parts(
            gate,
            parts[_alike(gate)],
            seen,
            alpha=look.alpha,
            room=look.room,
            in_flight=in_flight * _n(seen) / max(total, 1),  # a gate is about as many of them as of all requests
            whole=whole,
        )
        if gate.counts_requests
        else read_replicates(gate, seen, asked, alpha=look.alpha, room=look.room)
        for gate, seen in zip(gates, observed, strict=True)
    ]


def _alike(gate: Gate) -> Hashable:
    """Return what is the same for gates on the same values: those of a million answers are held once."""
    return (gate.metric, gate.scope) if gate.row.kind is Kind.SAMPLE else gate


def _n(observed: Sequence[Observed]) -> int:
    return sum(one.n for one in observed)


def _values(gate: Gate, gates: Sequence[Gate], part: TraceTable) -> Sample:
    part = within(part, gate.scope)
    return bad_requests(gate, gates, part) if gate.row.kind is Kind.RATIO else gate.row.values(part)


def _looked_early(
    table: TraceTable, gates: Sequence[Gate], asked: Asked
) -> tuple[dict[Gate, int], tuple[Gate, int] | None]:
    """Return the gates that had failed for certain at some part of the run, and the first abort gate that tripped.

    Both with the number of requests after which they did.
    """
    parts = parts_of(asked.replicates, asked.requests)
    judge_early = EarlyJudge(gates, asked.replicates * parts)
    measured = table.replicate >= 0
    first = int((table.index - table.replicate * asked.requests)[measured].min(initial=2**31 - 1))
    failed: dict[Gate, int] = {}
    stopped_by: tuple[Gate, int] | None = None
    for number in range(asked.replicates):
        found = 0
        replicate = table.select(number)
        for part in complete_parts(replicate, first + number * asked.requests, asked.requests, parts):
            found += 1
            for gate in judge_early.look(part):
                failed.setdefault(gate, judge_early.parts * asked.requests // parts)
            for gate in () if stopped_by else tripped(gates, part):
                stopped_by = (gate, judge_early.parts * asked.requests // parts)
        if found < parts:
            break
    return failed, stopped_by


def complete_replicates(table: TraceTable, facts: RunFacts) -> list[int]:
    """Return the replicates of which every request was sent and ended by itself; the others are not judged."""
    cut = set(table.replicate[table.error == ErrorKind.UNFINISHED.value].tolist())
    return [number for number, count in table.requests.items() if count >= facts.asked.requests and number not in cut]


def _fallen(readings: Sequence[Reading], look: Look) -> list[bool]:
    p_values = [reading.interval.p_over if reading.gate.upper else reading.interval.p_under for reading in readings]
    return holm(p_values, (ALPHA - ALPHA_EARLY) * look.fails)


def _results(
    readings: Sequence[Reading], early: Mapping[Gate, int], look: Look | None, facts: RunFacts, *, may_pass: bool
) -> tuple[GateResult, ...]:
    fallen: set[Gate] = set()
    if look is not None:
        deciding = [reading for reading in readings if reading.gate.decides]
        groups = [deciding, *([one] for one in readings if not one.gate.decides)]  # what only warns shares nothing
        fallen = {one.gate for group in groups for one, down in zip(group, _fallen(group, look), strict=True) if down}
    # a PASS only at a look: a bound that is looked at more often than planned errs more often
    passing = Outcome.PASS if may_pass and look is not None and look.passes > 0 else Outcome.INCONCLUSIVE
    return tuple(
        _result(one, Outcome.FAIL if one.gate in fallen or one.gate in early else _passed(one, passing), early, facts)
        for one in readings
    )


def _passed(reading: Reading, passing: Outcome) -> Outcome:
    return passing if met(reading) else Outcome.INCONCLUSIVE


def _result(reading: Reading, outcome: Outcome, early: Mapping[Gate, int], facts: RunFacts) -> GateResult:
    gate, interval = reading.gate, reading.interval
    planned, minutes_each = facts.asked.replicates, facts.asked.requests / facts.asked.rate_rps / 60
    ahead = plan(reading) if outcome is Outcome.INCONCLUSIVE else None
    more = more_replicates(reading, planned) if outcome is Outcome.INCONCLUSIVE else None
    if ahead is not None and not ahead.seen and ahead.replicates > planned:
        more = ahead.replicates - planned
    return GateResult(
        gate=str(gate),
        outcome=outcome,
        metric=gate.metric,
        statistic=gate.statistic,
        operator=gate.operator,
        unit=BASE_UNIT[gate.row.dimension],
        limit=gate.limit,
        pass_limit=reading.pass_limit,
        estimate=reading.estimate,
        low=interval.low,
        high=interval.high,
        n=reading.n,
        values=reading.values,
        sentence=gate_sentence(reading, outcome, Outlook(more, minutes_each, ahead, early.get(gate))),
        detectable=detectable(reading),
        more_replicates=more,
        more_minutes=None if more is None else more * minutes_each,
        effect=gate.effect,
        scope=" and ".join(map(str, gate.scope)),
    )


def _decide(
    results: Sequence[GateResult], checks: Sequence[Check], overloaded: str, so_few: str
) -> tuple[Outcome, list[str]]:
    distrust = [check.sentence for check in checks if check.outcome is CheckOutcome.FAILED]
    if distrust:
        return Outcome.INVALID, distrust
    results = [result for result in results if result.effect is not Effect.WARN]
    broken = [result.sentence for result in results if result.outcome is Outcome.FAIL]
    if broken or overloaded:
        return Outcome.FAIL, [*broken, *([overloaded] if overloaded else [])]
    if all(result.outcome is Outcome.PASS for result in results):
        return Outcome.PASS, [result.sentence for result in results]
    reasons = [result.sentence for result in results if result.outcome is Outcome.INCONCLUSIVE]
    return Outcome.INCONCLUSIVE, [*([so_few] if so_few else []), *reasons]


def _why_so_few(done: int, stopped_by: tuple[Gate, int] | None, facts: RunFacts) -> str:
    """Say why not every replicate is complete; empty when they are."""
    planned = facts.asked.replicates
    if done >= planned:
        return ""
    if stopped_by is not None:
        gate, after = stopped_by
        complete = f"{done} of {planned} replicates are complete"
        return f"{gate} looked broken after {after} requests and stopped the load: {complete}."
    why = f"The {facts.budget_minutes:g} min allowed are used up: only" if facts.budget_minutes else "Only"
    return f"{why} {done} of {planned} replicates are complete."
