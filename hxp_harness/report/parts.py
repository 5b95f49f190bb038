"""From what the judge found to the record: the same values, made fit for JSON."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass

from pydantic import JsonValue

from hxp_harness.gates.outcome import Check, Verdict
from hxp_harness.gates.outcome import GateResult as Judged
from hxp_harness.metrics.definitions import Demand, window
from hxp_harness.metrics.summary import Numbers as Ends
from hxp_harness.metrics.summary import Summary, summarise_replicates
from hxp_harness.metrics.table import TraceTable
from hxp_harness.report.provenance import unknown
from hxp_harness.report.record import (
    Certificates,
    CheckResult,
    Facts,
    Figures,
    GateResult,
    Numbers,
    Record,
    Replicate,
)
from hxp_harness.target import Evidence


def from_parts(
    manifest: Mapping[str, object],
    verdict: Verdict,
    metrics: Mapping[str, Summary],
    *,
    replicates: Sequence[Replicate] = (),
    certificates: tuple[object, object] = (None, None),
    profile: object = None,
    load: object = None,
    server: object = None,
) -> Record:
    """Return the record of a run.

    `manifest` has `id`, `started` (ISO 8601, UTC), `evidence`, `environment` and, where known, `target`. `certificates`
    (before, after), `profile`, `load` and `server` are dataclasses, mappings or None: kept but for what JSON lacks.
    """
    before, after = certificates
    target = {"target": manifest["target"]} if manifest.get("target") else {}
    return Record(
        id=_text(str(manifest["id"])),
        started=str(manifest["started"]),
        verdict=verdict.outcome.value,
        reasons=tuple(_text(reason) for reason in verdict.reasons),
        evidence=Evidence(str(manifest["evidence"])),
        metrics={name: figures(summary, _gate_on(name, verdict)) for name, summary in metrics.items()},
        gates=tuple(_gate(gate) for gate in verdict.gates),
        checks=tuple(_check(check) for check in verdict.checks),
        replicates=tuple(replicates),
        certificate=Certificates(
            before=None if before is None else facts(before), after=None if after is None else facts(after)
        ),
        environment=facts(manifest.get("environment")) | facts(target),
        profile=facts(profile),
        load=facts(load),
        server=facts(server),
        unknown=unknown(manifest),
    )


def replicates_of(table: TraceTable, demands: Sequence[Demand] = ()) -> tuple[Replicate, ...]:
    """Return each replicate with its figures; `demands` are the latency gates, for goodput."""
    found = []
    for number, summaries in summarise_replicates(table, demands).items():
        span, own = window(table, number), table.select(number)
        found.append(
            Replicate(
                index=number,
                n=len(own),
                errors=int(len(own) - own.ok.sum()),
                started_s=span.start_s,
                ended_s=span.end_s,
                metrics={name: figures(summary) for name, summary in summaries.items()},
            )
        )
    return tuple(found)


def figures(summary: Summary, gate: Judged | None = None) -> Figures:
    """Return a metric's row; `gate` gives the confidence bounds of its gated statistic."""
    return Figures(
        unit=summary.unit,
        n=summary.n,
        low=None if gate is None else _finite(gate.low),
        high=None if gate is None else _finite(gate.high),
        lo=Numbers(**_numbers(summary.lo)),
        **_numbers(summary.hi),
    )


def facts(value: object) -> Facts:
    """Return a dataclass or mapping as a JSON object; None is an empty one."""
    tree = json_value({} if value is None else value)
    return tree if isinstance(tree, dict) else {"value": tree}


def json_value(value: object) -> JsonValue:
    """Return `value` as JSON has it: tuples are lists, what is not finite is null, foreign objects are their text."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {_text(str(key)): json_value(held) for key, held in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [json_value(held) for held in value]
    if isinstance(value, enum.Enum):
        return json_value(value.value)
    if isinstance(value, float):
        return _finite(value)
    if value is None or isinstance(value, bool | int):
        return value
    return _text(str(value))


def _check(check: Check) -> CheckResult:
    return CheckResult(name=_text(check.name), outcome=check.outcome.value, sentence=_text(check.sentence))


def _gate(gate: Judged) -> GateResult:
    return GateResult(
        text=_text(gate.gate),
        metric=gate.metric,
        statistic=gate.statistic or "value",
        operator=gate.operator,
        unit=gate.unit,
        outcome=gate.outcome.value,
        limit=gate.limit,
        guard=_finite(gate.pass_limit),
        estimate=_finite(gate.estimate),
        low=_finite(gate.low),
        high=_finite(gate.high),
        n=gate.n,
        estimates=tuple((_finite(low), _finite(high)) for low, high in gate.values),
        sentence=_text(gate.sentence),
        detectable=_finite(gate.detectable),
        needed=gate.more_replicates,
        needed_minutes=_finite(gate.more_minutes),
        effect=gate.effect,
        scope=gate.scope,
    )


def _gate_on(metric: str, verdict: Verdict) -> Judged | None:
    return next((gate for gate in verdict.gates if gate.metric == metric and not gate.scope), None)


def _numbers(ends: Ends) -> dict[str, float | None]:
    return {name: _finite(held) for name, held in asdict(ends).items()}


def _finite(number: float | None) -> float | None:
    return float(number) if number is not None and math.isfinite(number) else None


def _text(text: str) -> str:
    """A server can send half a surrogate pair, and UTF-8 has no word for it."""
    return text.encode("utf-8", "replace").decode("utf-8")
