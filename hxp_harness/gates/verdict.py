"""The decision: from traces, gates and facts to one of four outcomes, with its reasons."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from hxp_harness.gates.checks import check_run
from hxp_harness.gates.early import ALPHA_EARLY, EarlyJudge
from hxp_harness.gates.evaluate import Observed, Reading, met, observe, read_gate
from hxp_harness.gates.facts import RunFacts
from hxp_harness.gates.gate import Gate
from hxp_harness.gates.interval import ALPHA, holm
from hxp_harness.gates.outcome import Check, CheckOutcome, GateResult, Outcome, Verdict
from hxp_harness.gates.prospect import detectable, more_replicates
from hxp_harness.gates.saturation import saturation
from hxp_harness.gates.wording import gate_sentence
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
    readings, early = _read(table, gates, replicates, facts)
    overloaded = saturation(table, facts, replicates)
    results = _results(readings, early, len(replicates), facts)
    checks = check_run(table, gates, facts, readings, saturated=bool(overloaded))
    outcome, reasons = _decide(results, checks, overloaded, len(replicates), facts)
    return Verdict(outcome, tuple(reasons), results, tuple(checks), len(replicates), facts.asked.replicates)


def _read(
    table: TraceTable, gates: Sequence[Gate], replicates: Sequence[int], facts: RunFacts
) -> tuple[list[Reading], set[Gate]]:
    """Look at one replicate after the other; return what they say, and which gates had failed for certain by then."""
    observed: list[list[Observed]] = [[] for _ in gates]
    early, failed = EarlyJudge(gates), set[Gate]()
    for number in replicates:
        replicate = table.select(number)
        for gate, seen in zip(gates, observed, strict=True):
            seen.append(observe(gate, gates, table, replicate, facts.asked))
        failed.update(early.look(replicate))
    return [read_gate(gate, seen, facts.asked) for gate, seen in zip(gates, observed, strict=True)], failed


def complete_replicates(table: TraceTable, facts: RunFacts) -> list[int]:
    """Return the replicates of which every request was sent and ended by itself; the others are not judged."""
    cut = set(table.replicate[table.error == ErrorKind.UNFINISHED.value].tolist())
    return [number for number, count in table.requests.items() if count >= facts.asked.requests and number not in cut]


def _results(
    readings: Sequence[Reading], early: Collection[Gate], done: int, facts: RunFacts
) -> tuple[GateResult, ...]:
    p_values = [reading.interval.p_over if reading.gate.upper else reading.interval.p_under for reading in readings]
    whole = done >= facts.asked.replicates  # a test at the end says nothing sure about a run that ended early
    broken = holm(p_values, ALPHA - ALPHA_EARLY) if whole else [False] * len(readings)
    return tuple(
        _result(reading, fallen or reading.gate in early, whole, facts)
        for reading, fallen in zip(readings, broken, strict=True)
    )


def _result(reading: Reading, broken: bool, whole: bool, facts: RunFacts) -> GateResult:
    gate, interval = reading.gate, reading.interval
    outcome = Outcome.FAIL if broken else Outcome.PASS if whole and met(reading) else Outcome.INCONCLUSIVE
    more = more_replicates(reading) if outcome is Outcome.INCONCLUSIVE else None
    minutes = None if more is None else more * facts.asked.requests / facts.asked.rate_rps / 60
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
        sentence=gate_sentence(reading, outcome, more, minutes),
        detectable=detectable(reading),
        more_replicates=more,
        more_minutes=minutes,
    )


def _decide(
    results: Sequence[GateResult], checks: Sequence[Check], overloaded: str, done: int, facts: RunFacts
) -> tuple[Outcome, list[str]]:
    distrust = [check.sentence for check in checks if check.outcome is CheckOutcome.FAILED]
    if distrust:
        return Outcome.INVALID, distrust
    broken = [result.sentence for result in results if result.outcome is Outcome.FAIL]
    if broken or overloaded:
        return Outcome.FAIL, [*broken, *([overloaded] if overloaded else [])]
    if all(result.outcome is Outcome.PASS for result in results):
        return Outcome.PASS, [result.sentence for result in results]
    reasons = [result.sentence for result in results if result.outcome is Outcome.INCONCLUSIVE]
    if done < facts.asked.replicates:
        reasons.insert(0, f"Only {done} of {facts.asked.replicates} replicates are complete.")
    return Outcome.INCONCLUSIVE, reasons
