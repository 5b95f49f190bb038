"""One gate against the replicates: its statistic, its bounds, and which of the two limits they clear."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hxp_harness.gates.facts import Asked
from hxp_harness.gates.gate import Gate, demands
from hxp_harness.gates.interval import Interval, plain_interval, positive_interval, share_interval
from hxp_harness.metrics.definitions import Demand, Kind, good, rate, window
from hxp_harness.metrics.summary import mean, percentile
from hxp_harness.metrics.table import TraceTable

# A PASS of a latency gate needs its upper bound under this part of the limit. Percentiles of few thousand clustered
# requests lean to the low side, and their spread over eight replicates is itself uncertain: with the limit at the true
# p99 a bound without this margin passed 3-16 % of virtual runs, with it 0.2 %.
GUARD = 0.95
# An open loop at the contract's rate can show at most that rate, so a gate at it could never be passed if it were taken
# to the letter. It is met within the 1 % that the schedule itself may be missed by (sent/intended >= 0.99).
RATE_TOLERANCE = 0.99


@dataclass(frozen=True, slots=True)
class Reading:
    """What the replicates say about one gate; `values` are the statistic's bounds in each of them."""

    gate: Gate
    values: tuple[tuple[float, float], ...]
    estimate: float
    interval: Interval
    n: int
    limit: float  # FAIL beyond it
    pass_limit: float  # PASS on this side of it


def read_gate(
    gate: Gate, gates: Sequence[Gate], table: TraceTable, own: Mapping[int, TraceTable], asked: Asked
) -> Reading:
    """Compute the gate's statistic in each complete replicate (`own`), and bounds over them.

    The whole table is there for rates: requests that end in a replicate's window may have begun before it.
    """
    if gate.row.kind is Kind.RATE:
        return _rate_reading(gate, table, list(own), asked)
    if gate.row.kind is Kind.RATIO:
        return _share_reading(gate, list(own.values()), gates)
    return _sample_reading(gate, list(own.values()))


def _sample_reading(gate: Gate, own: Sequence[TraceTable]) -> Reading:
    values = [_statistic(gate, replicate) for replicate in own]
    lo, hi = [low for low, _ in values], [high for _, high in values]
    time = gate.row.dimension == "time"
    interval = (positive_interval if time else plain_interval)(lo, hi, gate.limit)
    estimate = _middle(values, log=interval.log)
    pass_limit = gate.limit * GUARD if time else gate.limit
    n = sum(len(replicate) for replicate in own)
    return Reading(gate, tuple(values), estimate, interval, n, gate.limit, pass_limit)


def _statistic(gate: Gate, replicate: TraceTable) -> tuple[float, float]:
    """Return bounds of the statistic; of nothing at all, nothing is known."""
    sample = gate.row.values(replicate)
    if gate.quantile is None:
        low, high = mean(replicate, gate.row, sample)
        return (0.0, math.inf) if low is None or high is None else (low, high)
    if sample.n == 0:
        return 0.0, math.inf
    return (
        percentile(sample.lo, gate.quantile, sample.infinite),
        percentile(sample.hi, gate.quantile, sample.infinite),
    )


def _middle(values: Sequence[tuple[float, float]], *, log: bool) -> float:
    """Return the mean over replicates (of the logarithm, where that is the scale) of the upper ends."""
    upper = [high for _, high in values]
    if not upper or not all(math.isfinite(value) for value in upper):
        return math.inf if upper else math.nan
    if log:
        return math.exp(math.fsum(math.log(value) for value in upper) / len(upper))
    return math.fsum(upper) / len(upper)


def _share_reading(gate: Gate, own: Sequence[TraceTable], gates: Sequence[Gate]) -> Reading:
    """Bound the share of bad requests; a gate on the share of good ones (goodput) is that, seen from the other side.

    A share of errors needs no guard band: counts have an exact bound. The share over a latency limit has the trouble
    of the percentile, so for a PASS goodput counts a request as good only within GUARD of its latency limits.
    """
    goodput = gate.metric == "goodput"
    surely, possibly = [], []
    for replicate in own:
        if goodput:
            n = len(replicate)
            surely.append(n - float(good(replicate, demands(gates)).hi.sum()))
            possibly.append(n - float(good(replicate, _guarded(demands(gates))).lo.sum()))
        else:
            sample = gate.row.values(replicate)
            surely.append(float(sample.lo.sum()))
            possibly.append(float(sample.hi.sum()))
    sizes = [len(replicate) for replicate in own]
    bad_limit = 1.0 - gate.limit if goodput else gate.limit
    interval = share_interval(surely, possibly, sizes, bad_limit)
    pairs = [(few / n, many / n) for few, many, n in zip(surely, possibly, sizes, strict=True)]
    estimate = math.fsum(surely) / sum(sizes) if sizes else math.nan
    if goodput:
        interval, estimate = _flipped(interval), 1.0 - estimate
        pairs = [(1.0 - many, 1.0 - few) for few, many in pairs]
    return Reading(gate, tuple(pairs), estimate, interval, sum(sizes), gate.limit, gate.limit)


def _guarded(limits: Sequence[Demand]) -> tuple[Demand, ...]:
    return tuple(Demand(one.metric, one.limit * GUARD, one.strict) for one in limits)


def _flipped(bad: Interval) -> Interval:
    return Interval(1.0 - bad.high, 1.0 - bad.low, bad.p_under, bad.p_over, bad.spread)


def _rate_reading(gate: Gate, table: TraceTable, replicates: Sequence[int], asked: Asked) -> Reading:
    """Bound a rate as it would be at the contract's own: a Poisson schedule offers more in one window, less in another.

    That is no doing of the service, and is known exactly: each value is scaled by contract rate / offered rate.
    """
    spans = [window(table, number) for number in replicates]
    values = []
    for span in spans:
        scale = asked.rate_rps * span.length_s / span.offered if span.offered else 0.0
        value = rate(table, gate.row, span) * scale
        values.append((value, value))
    offered = asked.rate_rps * (asked.output_tokens if gate.metric == "output_throughput" else 1)
    limit = min(gate.limit, RATE_TOLERANCE * offered)
    ends = [low for low, _ in values]
    n = sum(span.offered for span in spans)
    return Reading(gate, tuple(values), _middle(values, log=False), plain_interval(ends, ends, limit), n, limit, limit)
