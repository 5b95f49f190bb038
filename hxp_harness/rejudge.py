"""A stored run judged again, under its own gates or others, and told in words: no traffic, no change of the run."""

from __future__ import annotations

import math
from pathlib import Path

from hxp_harness import evidence
from hxp_harness.errors import UsageError
from hxp_harness.gates.explain import explain
from hxp_harness.gates.outcome import CheckOutcome, GateResult, Outcome, Verdict
from hxp_harness.stored import verdict_of
from hxp_harness.units import BASE_UNIT, format_quantity

_DIMENSION_OF = {unit: dimension for dimension, unit in BASE_UNIT.items()}


def judge_again(folder: Path, sentences: tuple[str, ...], file: Path | None, *, verified: bool = False) -> int:
    """Print the verdict on the run in `folder` under `sentences` and the gates in `file`; return its exit code.

    Without either, the run's own gates hold; where run.json is missing (the run was killed) it is written.
    `verified` looks first whether the files are as the run left them, and raises InvalidRun where they are not.
    """
    if verified:
        from hxp_harness.seal import verify  # the record's schema takes a quarter of a second

        print(f"verified: {', '.join(verify(folder))} are as the run left them (SHA-256)")
    gates = [*sentences, *(_gates_in(file) if file is not None else ())]
    verdict, _, _ = verdict_of(folder, gates or None)
    print(lines(verdict))
    if not gates and not (folder / evidence.RECORD).exists():
        from hxp_harness.conclude import conclude

        conclude(folder)
    return verdict.exit_code


def judge_file(
    result: Path, tool: str, sentences: tuple[str, ...], file: Path | None, *, client_proved: bool = False
) -> int:
    """Print what the result file of another tool carries under `sentences` and the gates in `file`; return its code."""
    from hxp_harness.foreign.judge import judge_foreign

    gates = [*sentences, *(_gates_in(file) if file is not None else ())]
    if not gates:
        raise UsageError("another tool's run has no gates of its own", hint="--gates FILE, or --gate 'ttft p95 <= 1 s'")
    verdict = judge_foreign(result, tool, gates, client_proved=client_proved)
    print(lines(verdict))
    return verdict.exit_code


def tell(folder: Path) -> str:
    """Return the story of the decision on the run in `folder`."""
    verdict, _, _ = verdict_of(folder)
    return explain(verdict, seen_of(folder))


def seen_of(folder: Path) -> tuple[str, ...]:
    """Return what the server's own figures hint at; nothing where the run has no record yet."""
    if not (folder / evidence.RECORD).exists():
        return ()
    from hxp_harness.report.record import read_record  # its schema takes a quarter of a second
    from hxp_harness.report.telemetry import sentences

    return tuple(sentences(read_record(folder)))


def lines(verdict: Verdict) -> str:
    """Return the verdict as a few lines: the outcome, its reasons, each gate with its bounds."""
    found = [verdict.outcome.value, *(f"  {reason}" for reason in verdict.reasons)]
    width = max((len(gate.gate) for gate in verdict.gates), default=0) + 2
    for gate in verdict.gates:
        estimate, low, high = (_value(one, gate) for one in (gate.estimate, gate.low, gate.high))
        sure = f"at least {low}" if gate.high == math.inf else f"{low} to {high}"
        outcome = "not judged" if verdict.outcome is Outcome.INVALID else gate.outcome.value
        found.append(f"  {outcome:<13}{gate.gate:<{width}}{estimate}, surely {sure}, of {gate.n}")
    found += [
        f"  {check.outcome.value:<13}{check.name}: {check.sentence}"
        for check in verdict.checks
        if check.outcome is not CheckOutcome.OK
    ]
    return "\n".join(found)


def _value(value: float | None, gate: GateResult) -> str:
    return "unknown" if value is None or math.isnan(value) else format_quantity(value, _DIMENSION_OF[gate.unit])


def _gates_in(file: Path) -> list[str]:
    """Return the gates of a file: a profile's, or one sentence a line (# begins a comment)."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read the gates in {file}: {error.strerror}") from None
    if file.suffix in {".yaml", ".yml"}:
        from hxp_harness.profile import read_profile

        return list(read_profile(file).gates)
    found = [line.partition("#")[0].strip() for line in text.splitlines()]
    return [line for line in found if line]
