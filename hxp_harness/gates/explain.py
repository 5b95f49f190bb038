"""The story of a decision in plain words: what was asked, what was seen, why this follows, what would change it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from hxp_harness.gates.evaluate import GUARD
from hxp_harness.gates.outcome import Check, CheckOutcome, GateResult, Outcome, Verdict
from hxp_harness.units import format_quantity

WIDTH = 100

_OPENING = {
    Outcome.PASS: "PASS: every gate is met, and each of them surely enough to bet a release on.",
    Outcome.FAIL: "FAIL: the service does not do what was asked, and chance does not explain it.",
    Outcome.INCONCLUSIVE: "INCONCLUSIVE: nothing is known to be wrong, but what was measured does not decide it.",
    Outcome.INVALID: "INVALID: the measurement cannot be trusted, so nothing is said about the service.",
}
_HOW = (
    "The load was sent in equal parts, the replicates. Requests influence each other (they share batches), "
    "so that slow ones come together and their number alone would make any figure look surer than it is. How much the "
    "parts of the run differ says how many independent requests it is worth, and how sure a figure really is. Every "
    "bound below is on the wrong side in at most 1 of 100 such runs."
)
_GUARD = (
    f"A latency passes only when its bound lies {1 - GUARD:.0%} below the limit: what the bounds leave out, such as a "
    "memory of the server that is longer than the run, must not tip a verdict."
)


def explain(verdict: Verdict, seen: Sequence[str] = ()) -> str:
    """Return the story as paragraphs of at most WIDTH columns, ending with a line break.

    `seen` is what the server said of itself meanwhile, sentence by sentence.
    """
    parts = [_OPENING[verdict.outcome]]
    parts += [f"- {reason}" for reason in verdict.reasons]
    parts += ["How it was judged", _how(verdict)]
    if any(gate.unit == "s" for gate in verdict.gates):
        parts.append(_GUARD)
    parts += ["The gates", *(_gate(gate, verdict.outcome) for gate in verdict.gates)]
    parts += ["Can the measurement be trusted?", *_checks(verdict)]
    if seen:
        parts += ["What the server said meanwhile", " ".join(seen)]
    parts += ["What next", _next(verdict)]
    return "\n\n".join(_wrapped(part) for part in parts) + "\n"


def _wrapped(part: str) -> str:
    indent = "  " if part.startswith("- ") else ""
    return textwrap.fill(part, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _how(verdict: Verdict) -> str:
    return f"{verdict.replicates} of {verdict.replicates_planned} replicates are complete. {_HOW}"


def _gate(gate: GateResult, run: Outcome) -> str:
    outcome = "not judged" if run is Outcome.INVALID else gate.outcome
    text = f"- {gate.gate}: {outcome}. {gate.sentence}"
    per_replicate = ", ".join(_value(high, gate) for _, high in gate.values)
    if per_replicate:
        text += f" Replicate by replicate: {per_replicate}."
    if any(low != high for low, high in gate.values):
        text += " Some arrivals are known only to lie between two readings; the worse end is shown and was judged."
    if gate.detectable is not None:
        text += f" A run like this one tells a difference of {gate.detectable:.2g} times the limit or more."
    return text


def _value(value: float, gate: GateResult) -> str:
    return "infinite" if value == float("inf") else format_quantity(value, gate.dimension)


def _checks(verdict: Verdict) -> list[str]:
    if not verdict.distrusted:
        return [f"All {len(verdict.checks)} checks are clean."]
    clean = len(verdict.checks) - len(verdict.distrusted)
    return [f"{clean} of {len(verdict.checks)} checks are clean. The others:", *map(_check, verdict.distrusted)]


def _check(check: Check) -> str:
    label = "FAILED" if check.outcome is CheckOutcome.FAILED else "not proven"
    return f"- {check.name}, {label}: {check.sentence}"


def _next(verdict: Verdict) -> str:
    if verdict.outcome is Outcome.PASS:
        return "Nothing: keep the run folder, it holds every trace the verdict stands on."
    if verdict.outcome is Outcome.INVALID:
        return "Remove the cause named above and run again; `hxp certify` shows what this machine can measure."
    if verdict.outcome is Outcome.FAIL:
        return "Look at the report's latency over time and at the slowest requests; `hxp judge` tries other gates."
    open_gates = [gate for gate in verdict.gates if gate.outcome is Outcome.INCONCLUSIVE]
    more = [gate.more_replicates for gate in open_gates]
    known = [number for number in more if number is not None]
    if len(known) == len(more) and known:
        total = verdict.replicates + max(known)
        return f"Run again with replicates.count: {total} in the profile; as far as this run can tell, that decides."
    return (
        "More of the same would not decide it: the truth lies too close to the limit. Change the limit or the service."
    )
