"""A run of another tool under our gates: never a PASS, and a FAIL only where its evidence carries one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from hxp_harness.errors import UsageError
from hxp_harness.foreign import aiperf, guidellm, vllm_bench
from hxp_harness.foreign.result import Foreign
from hxp_harness.gates.facts import Asked, RunFacts
from hxp_harness.gates.gate import Gate, check_supported
from hxp_harness.gates.grammar import parse_gates
from hxp_harness.gates.outcome import Check, CheckOutcome, GateResult, Outcome, Verdict
from hxp_harness.gates.scope import refuse_nobody
from hxp_harness.gates.verdict import judge
from hxp_harness.metrics.table import TraceTable
from hxp_harness.trace import Trace
from hxp_harness.units import format_quantity

READERS: dict[str, Callable[[Path], Foreign]] = {
    "vllm-bench": vllm_bench.read,
    "guidellm": guidellm.read,
    "aiperf": aiperf.read,
}
PARTS = 8
LACKS = (
    "No certificate: nothing says that the tool's times are right, and a client at its limit reports its own queue.",
    "No replicates: one run cannot show how much another would differ, so no bound can carry a PASS.",
)
PROVED = "You say that its client was not the limit."


def judge_foreign(file: Path, tool: str, sentences: Sequence[str], *, client_proved: bool) -> Verdict:
    """Return what the run in `file`, made by `tool`, carries under the gates `sentences`.

    The run is cut into equal parts in the order of sending, which are read as replicates are. `client_proved` says
    that somebody vouches for the client: only then can latencies and rates FAIL. Raises UsageError for gates that the
    file cannot tell of.
    """
    run = READERS[tool](file)
    gates = parse_gates(sentences)
    for gate in gates:
        if gate.metric in run.cannot:
            raise UsageError(f"{gate}: the file of {run.tool} does not hold {gate.metric}")
    traces, asked = _in_parts(run, gates)
    table = TraceTable.from_traces(traces)
    for gate in gates:
        refuse_nobody(table, gate.scope, str(gate))
    found = judge(table, gates, RunFacts(asked))
    results = tuple(_capped(one, run.tool, client_proved=client_proved) for one in found.gates)
    lacks = (*LACKS, *run.lacks, *((PROVED,) if client_proved else ()))
    checks = tuple(Check(f"as {run.tool} left it", CheckOutcome.NOT_PROVEN, sentence) for sentence in lacks)
    broken = [one.sentence for one in results if one.outcome is Outcome.FAIL]
    outcome = Outcome.FAIL if broken else Outcome.INCONCLUSIVE
    reasons = broken or [one.sentence for one in results]
    return Verdict(outcome, tuple(reasons), results, checks, asked.replicates, asked.replicates)


def _in_parts(run: Foreign, gates: Sequence[Gate]) -> tuple[list[Trace], Asked]:
    """Return the measured requests in as many parts, at most eight, as every gate can still be read from."""
    measured = [trace for trace in run.traces if trace.replicate >= 0]
    problem: UsageError | None = None
    for parts in range(PARTS, 1, -1):
        asked = _asked(measured, parts)
        try:
            for gate in gates:
                check_supported(gate, asked)
        except UsageError as error:
            problem = error
            continue
        cut = measured[: parts * asked.requests]
        return [replace(trace, replicate=place // asked.requests) for place, trace in enumerate(cut)], asked
    raise UsageError(f"{len(measured)} requests do not suffice", hint="" if problem is None else problem.message)


def _asked(measured: Sequence[Trace], parts: int) -> Asked:
    """Take what was sent for what was asked: nobody wrote the contract down."""
    sent_s = [trace.sent_s for trace in measured if trace.sent_s is not None]
    length_s = max(sent_s, default=0.0) - min(sent_s, default=0.0)
    return Asked(
        rate_rps=len(measured) / length_s if length_s > 0 else 1.0,
        prompt_tokens=_mean([trace.prompt_tokens for trace in measured]),
        output_tokens=round(_mean([trace.output_tokens for trace in measured])),
        replicates=parts,
        requests=max(len(measured) // parts, 1),
        stream=any(len(trace.token_hi_s) > 1 for trace in measured),
        cache="any",
        open_loop=False,
    )


def _mean(counts: Sequence[int | None]) -> float:
    known = [count for count in counts if count]  # a tool writes 0 where it does not know
    return float(np.mean(known)) if known else 1.0


def _beyond(result: GateResult) -> bool:
    """Whether the gate failed by its own bound: tests that need real replicates decide nothing about parts of a run."""
    if result.outcome is not Outcome.FAIL or result.low is None or result.high is None:
        return False
    return result.low > result.limit if result.operator.startswith("<") else result.high < result.limit


def _capped(result: GateResult, tool: str, *, client_proved: bool) -> GateResult:
    """Return the result as far as the tool's evidence carries it."""
    if _beyond(result) and (client_proved or result.metric == "error_rate"):
        return replace(
            result, sentence=f"As {tool} saw it: {result.sentence.replace('replicates', 'parts of the run')}"
        )
    if result.estimate is None:
        return replace(result, outcome=Outcome.INCONCLUSIVE)
    estimate, limit = (format_quantity(value, result.dimension) for value in (result.estimate, result.limit))
    holds = result.estimate <= result.limit if result.operator.startswith("<") else result.estimate >= result.limit
    what = f"{result.metric} {result.statistic}".strip()
    told = f"{what} was {estimate} as {tool} saw it, {'within' if holds else 'beyond'} the limit of {limit}"
    why = "that is no PASS" if holds else "whether the service or the client was slow cannot be told"
    if not holds and (client_proved or result.metric == "error_rate"):
        why = "the run is too short or too uneven to be sure"
    return replace(
        result, outcome=Outcome.INCONCLUSIVE, sentence=f"{told}; {why}.", more_replicates=None, more_minutes=None
    )
