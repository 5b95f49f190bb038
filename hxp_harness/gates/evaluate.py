"""One gate against the replicates: its statistic, its bounds, and which of the two limits they clear."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

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
class Observed:
    """One gate in one replicate: bounds of its statistic or, for a ratio, of the number of bad requests; of `n`.

    For a percentile also how many of its `samples` are possibly `over` the limit.
    """

    lo: float
    hi: float
    n: int
    over: int = 0
    samples: int = 0


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
    over_seen: float = 0.0  # share of values that are possibly over the limit
    over: float = 0.0  # its upper bound, which a PASS needs within `over_allowed`
    over_allowed: float = 1.0


def observe(gate: Gate, gates: Sequence[Gate], table: TraceTable, replicate: TraceTable, asked: Asked) -> Observed:
    """Look at one complete replicate.

    The whole table is there for rates: requests that end in a replicate's window may have begun before it.
    """
    n = len(replicate)
    if gate.row.kind is Kind.RATE:
        value = _rate(gate, table, int(replicate.replicate[0]), asked)
        return Observed(value, value, n)
    if gate.row.kind is Kind.RATIO:
        return Observed(*_bad(gate, gates, replicate), n)
    return _percentile_or_mean(gate, replicate)


def read_gate(gate: Gate, observed: Sequence[Observed], asked: Asked) -> Reading:
    """Bound the gate's true value from what was observed in each replicate."""
    if gate.row.kind is Kind.RATIO:
        return _share_reading(gate, observed)
    lo, hi = [one.lo for one in observed], [one.hi for one in observed]
    limit = pass_limit = gate.limit
    time = gate.row.dimension == "time"
    if time:
        pass_limit *= GUARD
    elif gate.row.kind is Kind.RATE:
        offered = asked.offered(tokens=gate.metric == "output_throughput")
        limit = pass_limit = min(gate.limit, RATE_TOLERANCE * offered)
    interval = (positive_interval if time else plain_interval)(lo, hi, limit)
    n = sum(one.n for one in observed)
    values = tuple(zip(lo, hi, strict=True))
    reading = Reading(gate, values, _middle(hi, log=interval.log), interval, n, limit, pass_limit)
    if not time or gate.quantile is None:
        return reading
    # A percentile just before a jump in latency looks firm however many requests lie behind it: so they are counted.
    over, samples, allowed = [one.over for one in observed], [one.samples for one in observed], 1.0 - gate.quantile
    most = share_interval(over, over, samples, allowed).high
    return replace(reading, over_seen=sum(over) / max(sum(samples), 1), over=most, over_allowed=allowed)


def met(reading: Reading) -> bool:
    """Whether the gate is surely met: its bound clears the limit, and few enough values lie beyond it."""
    return clears(reading) and reading.over <= reading.over_allowed


def clears(reading: Reading) -> bool:
    """Whether the bound of the statistic clears the limit with its guard band."""
    if len(reading.values) < 2:
        return False
    gate, bound = reading.gate, reading.interval.high if reading.gate.upper else reading.interval.low
    if gate.upper:
        return bound < reading.pass_limit if gate.strict else bound <= reading.pass_limit
    return bound > reading.pass_limit if gate.strict else bound >= reading.pass_limit


def _percentile_or_mean(gate: Gate, replicate: TraceTable) -> Observed:
    """Return bounds of the statistic; of nothing at all, nothing is known."""
    sample, n = gate.row.values(replicate), len(replicate)
    if gate.quantile is None:
        low, high = mean(replicate, gate.row, sample)
        return Observed(0.0, math.inf, n) if low is None or high is None else Observed(low, high, n)
    if sample.n == 0:
        return Observed(0.0, math.inf, n, over=1, samples=1)
    lo, hi = (percentile(side, gate.quantile, sample.infinite) for side in (sample.lo, sample.hi))
    return Observed(lo, hi, n, int((sample.hi > gate.limit).sum()) + sample.infinite, sample.n)


def _middle(upper: Sequence[float], *, log: bool) -> float:
    """Return the mean over replicates, of the logarithm where that is the scale."""
    if not upper or not all(math.isfinite(value) for value in upper):
        return math.inf if upper else math.nan
    if log:
        return math.exp(math.fsum(math.log(value) for value in upper) / len(upper))
    return math.fsum(upper) / len(upper)


def _bad(gate: Gate, gates: Sequence[Gate], replicate: TraceTable) -> tuple[float, float]:
    """Return how many requests are surely and how many are possibly bad.

    Errors need no guard band: counts have an exact bound. The share over a latency limit has the trouble of the
    percentile, so for a PASS goodput takes a request as good only within GUARD of its latency limits.
    """
    if gate.metric == "goodput":
        limits = demands(gates)
        guarded = [Demand(one.metric, one.limit * GUARD, one.strict) for one in limits]
        n = len(replicate)
        return n - float(good(replicate, limits).hi.sum()), n - float(good(replicate, guarded).lo.sum())
    sample = gate.row.values(replicate)
    return float(sample.lo.sum()), float(sample.hi.sum())


def _share_reading(gate: Gate, observed: Sequence[Observed]) -> Reading:
    """Bound the share of bad requests; a gate on the share of good ones is that, seen from the other side."""
    lo, hi, sizes = [one.lo for one in observed], [one.hi for one in observed], [one.n for one in observed]
    bad_limit = gate.limit if gate.upper else 1.0 - gate.limit
    interval = share_interval(lo, hi, sizes, bad_limit)
    values = [(one.lo / one.n, one.hi / one.n) for one in observed]
    estimate = math.fsum(lo) / sum(sizes) if sizes else math.nan
    if not gate.upper:
        interval, estimate = _flipped(interval), 1.0 - estimate
        values = [(1.0 - high, 1.0 - low) for low, high in values]
    return Reading(gate, tuple(values), estimate, interval, sum(sizes), gate.limit, gate.limit)


def _flipped(bad: Interval) -> Interval:
    return Interval(1.0 - bad.high, 1.0 - bad.low, bad.p_under, bad.p_over, bad.spread)


def _rate(gate: Gate, table: TraceTable, number: int, asked: Asked) -> float:
    """Return a rate as it would be at the contract's own.

    A Poisson schedule offers more in one window and less in another. That is no doing of the service, and is known
    exactly: the value is scaled by contract rate / offered rate. Where sending waits for answers, nothing was offered.
    """
    span = window(table, number)
    if not asked.open_loop:
        return rate(table, gate.row, span)
    return rate(table, gate.row, span) * asked.rate_rps * span.length_s / span.offered
