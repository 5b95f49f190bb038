"""What of a run's record is compared, and whether two runs may be compared at all."""

from __future__ import annotations

from collections.abc import Sequence

from hxp_harness.comparison.effect import Ends, Figure
from hxp_harness.gates.outcome import Effect
from hxp_harness.metrics.definitions import METRICS
from hxp_harness.report.record import Record

# Shown beside the gated figures: metric and statistic
ALSO = (("e2e", "p50"), ("e2e", "p95"), ("ttft", "p95"), ("tpot", "mean"), ("output_throughput", "mean"))
_OUR_OWN = {"timeout"}  # of the contract: how long we wait is no part of the work
_MACHINE = ("processor", "cores", "kernel", "gpu", "gpu_driver")


def figures_of(records: Sequence[Record]) -> dict[str, Figure]:
    """Return the figures of one target, by name, over all replicates of these records: gated ones first."""
    found: dict[str, Figure] = {}
    for gate in records[0].gates:
        values = [pair for record in records for pair in _gated(record, gate.text)]
        statistic = "" if gate.statistic == "value" else f" {gate.statistic}"
        shown = f"{gate.metric}{statistic}" + (f" where {gate.scope}" if gate.scope else "")
        better = "lower" if gate.operator.startswith("<") else "higher"
        decides = gate.effect is not Effect.WARN
        found[shown] = Figure(shown, gate.unit, better, tuple(values), decides=decides)
    for metric, statistic in ALSO:
        shown = metric if metric == "output_throughput" else f"{metric} {statistic}"
        values = [pair for record in records for pair in _metric(record, metric, statistic)]
        if shown not in found and values:
            row = METRICS[metric]
            unit = next((r.metrics[metric].unit for r in records[0].replicates), "")
            found[shown] = Figure(shown, unit, row.better, tuple(values), decides=False)
    return found


def differing(a: Record, b: Record) -> list[str]:
    """Return in what the workloads differ, as words; runs of different workloads are not compared."""
    found = []
    mine, theirs = (record.profile.get("contract") for record in (a, b))
    if not isinstance(mine, dict) or not isinstance(theirs, dict):
        return ["one of them has no contract"]
    keys = sorted((mine.keys() | theirs.keys()) - _OUR_OWN)
    found = [f"{key}: {mine.get(key)} against {theirs.get(key)}" for key in keys if mine.get(key) != theirs.get(key)]
    if a.evidence is not b.evidence:
        found.append(f"evidence: {a.evidence} against {b.evidence}")
    return found


def same_numbers(a: Record, b: Record) -> bool:
    """Whether both runs had the same arrivals and prompts, so that replicates can be compared pair by pair."""
    keys = ("seed", "replicates")
    return not differing(a, b) and all(a.profile.get(key) == b.profile.get(key) for key in keys)


def machines(a: Record, b: Record) -> list[str]:
    """Return in what the machines of two runs differ, as words."""
    pairs = ((key, a.environment.get(key), b.environment.get(key)) for key in _MACHINE)
    return [f"{key}: {mine} against {theirs}" for key, mine, theirs in pairs if mine != theirs]


def _gated(record: Record, text: str) -> list[Ends]:
    own = next((gate for gate in record.gates if gate.text == text), None)
    pairs = () if own is None else own.estimates
    return [(_number(low), _number(high)) for low, high in pairs]


def _metric(record: Record, metric: str, statistic: str) -> list[Ends]:
    found = []
    for replicate in record.replicates:
        figures = replicate.metrics.get(metric)
        low, high = (None, None) if figures is None else (getattr(figures.lo, statistic), getattr(figures, statistic))
        if low is not None and high is not None:
            found.append((low, high))
    return found


def _number(value: float | None) -> float:
    return float("inf") if value is None else value
