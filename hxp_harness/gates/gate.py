"""A gate: one sentence as engineers write it, `e2e p95 <= 2000 ms`, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hxp_harness.errors import UsageError
from hxp_harness.gates.facts import Asked
from hxp_harness.gates.outcome import Effect
from hxp_harness.gates.scope import Condition
from hxp_harness.metrics.definitions import METRICS, Demand, Kind, Metric
from hxp_harness.metrics.summary import needed_samples
from hxp_harness.units import format_quantity

STATISTICS = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}


@dataclass(frozen=True, slots=True)
class Gate:
    """A limit on one statistic of one metric; `limit` in the base unit. `str()` is a sentence that reads back as it.

    `scope` says which requests it is about, all of them when empty. `own_demands` are the limits that goodput was
    given in brackets; None: those of the profile's latency gates.
    """

    metric: str
    statistic: str  # a key of STATISTICS, "mean", or empty for a rate or a ratio
    operator: str  # <=, <, >= or >
    limit: float
    text: str  # as it was written, single-spaced
    effect: Effect = Effect.DECIDE
    scope: tuple[Condition, ...] = ()
    own_demands: tuple[Demand, ...] | None = None

    def __str__(self) -> str:
        return self.text

    @property
    def row(self) -> Metric:
        return METRICS[self.metric]

    @property
    def upper(self) -> bool:
        """Whether the limit is the largest value allowed (<=, <), not the smallest."""
        return self.operator.startswith("<")

    @property
    def strict(self) -> bool:
        return len(self.operator) == 1

    @property
    def quantile(self) -> float | None:
        return STATISTICS.get(self.statistic)

    @property
    def decides(self) -> bool:
        return self.effect is not Effect.WARN

    @property
    def counts_requests(self) -> bool:
        """Whether it is about a share of requests or values, as percentiles and ratios are."""
        return self.row.kind is Kind.RATIO or self.quantile is not None


def check_supported(gate: Gate, asked: Asked) -> None:
    """Raise UsageError when no run of this size and contract could ever decide the gate."""
    streamed = [gate.metric, *(demand.metric for demand in gate.own_demands or ())]
    if not asked.stream and (undefined := next((name for name in streamed if METRICS[name].streaming), None)):
        raise UsageError(f"{gate}: {undefined} is undefined without streaming", hint="gate e2e, or set stream: true")
    check_samples(gate, asked.requests, asked.output_tokens, "replicates.requests (--requests)")
    if gate.row.kind is Kind.RATE:
        offered = asked.offered(tokens=gate.metric == "output_throughput")
        if gate.limit > offered:
            most = format_quantity(offered, gate.row.dimension)
            raise UsageError(
                f"{gate}: the contract offers only {most}, so no run can show more",
                hint="raise contract.rate or lower the gate",
            )


def check_samples(gate: Gate, requests: int, output_tokens: int, what: str) -> None:
    """Raise UsageError when so many `requests` a replicate cannot tell the gate's percentile; `what` has to grow."""
    if gate.quantile is None:
        return
    samples = requests * (max(output_tokens - 1, 0) if gate.metric == "itl" else 1)
    needed = needed_samples(gate.quantile)
    if samples < needed:
        raise UsageError(
            f"{gate}: {samples} samples a replicate cannot tell a {gate.statistic}, which needs {needed}",
            hint="; ".join(filter(None, (_smaller_statistic(samples), f"set {what} to {needed} or more"))),
        )


def demands(gates: Iterable[Gate]) -> tuple[Demand, ...]:
    """Return the latency gates as limits on single requests: what goodput counts.

    Gates on some requests only, and those that only warn, ask nothing of every request.
    """
    return tuple(
        Demand(gate.metric, gate.limit, gate.strict)
        for gate in gates
        if gate.row.dimension == "time" and gate.upper and not gate.scope and gate.decides
    )


def demands_of(gate: Gate, gates: Sequence[Gate]) -> tuple[Demand, ...]:
    """Return what a gate on goodput asks of a single request."""
    return demands(gates) if gate.own_demands is None else gate.own_demands


def _smaller_statistic(samples: int) -> str:
    told = [name for name, q in STATISTICS.items() if needed_samples(q) <= samples]
    return f"{samples} samples can tell {told[-1]}" if told else ""


def needs_gaps(gates: Sequence[Gate]) -> bool:
    """Whether some gate is on single gaps between tokens, nine tenths of what traces hold."""
    return any(gate.metric == "itl" for gate in gates)
