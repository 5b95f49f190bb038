"""One gate against the replicates: its statistic, its bounds, and which of the two limits they clear."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hxp_harness.gates.effective import NOTHING_ESTIMATED, Effective, counts_over, effective, long_enough, thresholds
from hxp_harness.gates.facts import Asked
from hxp_harness.gates.gate import Gate, demands_of
from hxp_harness.gates.interval import ALPHA, Interval, plain_interval, positive_interval
from hxp_harness.gates.scope import within
from hxp_harness.gates.shares import (
    HEADROOM,
    Shares,
    least_values,
    least_worth,
    percentile_interval,
    share_beyond,
    share_interval,
)
from hxp_harness.metrics.definitions import Demand, Kind, Sample, Values, good, rate, window
from hxp_harness.metrics.summary import mean, percentile
from hxp_harness.metrics.table import TraceTable

# A PASS of a latency gate needs its upper bound under this part of the limit: what the bounds leave out (a memory of
# the server longer than the run, the clock) must not tip a verdict. The self-test shows what it buys.
GUARD = 0.98
# A limit is too far off for any swing of the server when it lies beyond FAR times the largest value seen. Or
# beyond NEAR times, in a run that is long enough to have met a stall, and by FAR_SPREADS standard deviations (of the
# logarithm) beyond the largest values of the BLOCKS stretches of the run.
FAR, NEAR = 3.0, 1.5
BLOCKS, FAR_SPREADS = 16, 10.0
# An open loop at the contract's rate can show at most that rate, so a gate at it could never be passed if it were taken
# to the letter. It is met within the 1 % that the schedule itself may be missed by (sent/intended >= 0.99).
RATE_TOLERANCE = 0.99


@dataclass(frozen=True, slots=True)
class Observed:
    """One gate in one replicate: bounds of its statistic, of `n` requests."""

    lo: float
    hi: float
    n: int


@dataclass(frozen=True, slots=True)
class Reading:
    """What the replicates say about one gate; `values` are the statistic's bounds in each of them.

    A gate that counts requests, percentiles included, has `shares`; a mean or a rate has none.
    """

    gate: Gate
    values: tuple[tuple[float, float], ...]
    estimate: float
    interval: Interval
    n: int
    limit: float  # FAIL beyond it
    pass_limit: float  # PASS on this side of it
    alpha: float = ALPHA  # chance of each bound to be wrong
    shares: Shares | None = None


def observe(gate: Gate, gates: Sequence[Gate], table: TraceTable, replicate: TraceTable, asked: Asked) -> Observed:
    """Look at one complete replicate.

    The whole table is there for rates: requests that end in a replicate's window may have begun before it.
    """
    replicate = within(replicate, gate.scope)
    n = len(replicate)
    if n == 0:
        return Observed(0.0, math.inf, 0)
    if gate.row.kind is Kind.RATE:
        value = _rate(gate, table, int(replicate.replicate[0]), asked)
        return Observed(value, value, n)
    if gate.row.kind is Kind.RATIO:
        bad = bad_requests(gate, gates, replicate)
        few, many = float(bad.lo.mean()), float(bad.hi.mean())
        return Observed(few, many, n) if gate.upper else Observed(1.0 - many, 1.0 - few, n)
    return _percentile_or_mean(gate, replicate)


def read_parts(
    gate: Gate,
    parts: Sequence[Sample],
    observed: Sequence[Observed],
    *,
    alpha: float = ALPHA,
    room: float = 1.0,
    in_flight: float = 1.0,
    whole: bool = False,
) -> Reading:
    """Read a gate on a percentile or a ratio off its values, cut into parts in order of time.

    Values of a ratio are 1 for a bad request. A PASS leaves a time only the part `room` of its limit. `in_flight`
    requests were open at once; `whole` says that the run was not cut short, and may fail as short as it was planned.
    """
    pooled = joined(parts)
    values, n = tuple((one.lo, one.hi) for one in observed), sum(one.n for one in observed)
    if pooled.n == 0:
        nothing = Interval(0.0, math.inf, 1.0, 1.0)
        return Reading(gate, values, math.inf if values else math.nan, nothing, n, gate.limit, gate.limit, alpha)
    if gate.quantile is None:
        ratio = _ratio_reading(gate, parts, pooled, values, alpha, in_flight)
        return ratio if whole or long_enough(n, in_flight) else replace(ratio, interval=_unsaid(ratio.interval))
    worth = worth_of(parts, pooled, gate.quantile)
    return read_percentile(gate, pooled, worth, observed, alpha=alpha, room=room, in_flight=in_flight, whole=whole)


def read_replicates(
    gate: Gate, observed: Sequence[Observed], asked: Asked, *, alpha: float = ALPHA, room: float = 1.0
) -> Reading:
    """Read a gate on a mean or a rate off its value in each replicate."""
    lo, hi = [one.lo for one in observed], [one.hi for one in observed]
    limit, time = gate.limit, gate.row.dimension == "time"
    if gate.row.kind is Kind.RATE:
        limit = min(limit, RATE_TOLERANCE * asked.offered(tokens=gate.metric == "output_throughput"))
    interval = (positive_interval if time else plain_interval)(lo, hi, limit, alpha)
    values, estimate = tuple(zip(lo, hi, strict=True)), _middle(hi, log=interval.log)
    n = sum(one.n for one in observed)
    return Reading(gate, values, estimate, interval, n, limit, limit * (GUARD * room if time else 1.0), alpha)


def met(reading: Reading) -> bool:
    """Whether the gate is surely met: the bound of the statistic clears the limit with its guard band."""
    if len(reading.values) < 2 or not worth_enough(reading):
        return False
    gate, bound = reading.gate, reading.interval.high if reading.gate.upper else reading.interval.low
    if gate.upper:
        return bound < reading.pass_limit if gate.strict else bound <= reading.pass_limit
    return bound > reading.pass_limit if gate.strict else bound >= reading.pass_limit


def worth_enough(reading: Reading) -> bool:
    """Whether the sample is worth enough independent requests to show the percentile at all."""
    return reading.shares is None or reading.shares.enough(reading.shares.worth, reading.alpha)


def joined(parts: Sequence[Sample]) -> Sample:
    if not parts:
        return Sample(np.zeros(0), np.zeros(0))
    lo, hi = (np.concatenate([getattr(part, side) for part in parts]) for side in ("lo", "hi"))
    return Sample(lo, hi, sum(part.infinite for part in parts))


def worth_of(parts: Sequence[Sample], pooled: Sample, q: float) -> Effective:
    """Return what a sample is worth for a gate on the q-quantile."""
    below, own = thresholds(pooled, q)
    return effective(*counts_over(parts, [*below, *own]), below=len(below), rarity=1 - q)


def read_percentile(
    gate: Gate,
    pooled: Sample,
    worth: Effective,
    observed: Sequence[Observed],
    *,
    alpha: float,
    in_flight: float,
    whole: bool,
    room: float = 1.0,
) -> Reading:
    """Read a gate on a percentile off all values together, which are worth so many independent ones."""
    q = gate.quantile or 0.5
    estimate = percentile(pooled.hi, q, pooled.infinite)
    time = gate.row.dimension == "time"
    guard = GUARD if time else 1.0
    least_n = least_values(q, in_flight) if gate.upper and time else 0
    far = gate.upper and _far(pooled, gate.limit, gate.limit * guard, long=pooled.n >= least_n > 0)
    pass_limit = gate.limit * guard * (room if time and not far else 1.0)  # what is far off has room enough
    all_over = gate.upper and float(pooled.lo.min(initial=math.inf)) > gate.limit
    clustered = worth
    if far or all_over:  # how values cluster that lie far below the limit, or all beyond it, says nothing of the limit
        worth = Effective(pooled.n, freedom=NOTHING_ESTIMATED)
    shares = Shares(
        over=share_beyond(pooled, gate.limit, upper=gate.upper, surely=True),
        over_pass=share_beyond(pooled, pass_limit, upper=gate.upper, surely=False),
        allowed=1 - q if gate.upper else q,
        worth=worth,
        least=0.0 if far else least_worth(q),
        least_n=least_n,
        spare=share_beyond(pooled, _roomy(estimate, gate) * guard, upper=gate.upper, surely=False),
    )
    values, n = tuple((one.lo, one.hi) for one in observed), sum(one.n for one in observed)
    interval = percentile_interval(pooled, q, gate.limit, worth, alpha)
    if far or all_over:  # but it does say how well the percentile itself is known
        ends = percentile_interval(pooled, q, gate.limit, clustered, alpha)
        interval = replace(
            interval,
            low=ends.low if far else max(ends.low, min(interval.low, gate.limit)),
            high=min(ends.high, NEAR * float(pooled.hi.max())) if far else ends.high,
        )
    if not (whole or long_enough(2 * n if all_over else n, in_flight)):  # where all are over none need be joined
        interval = _unsaid(interval)
    return Reading(gate, values, estimate, interval, n, gate.limit, pass_limit, alpha, shares)


def _unsaid(interval: Interval) -> Interval:
    """Return the interval of a look that comes too soon to tell a failure from what clusters."""
    return replace(interval, p_over=1.0, p_under=1.0)


def _far(pooled: Sample, limit: float, pass_limit: float, *, long: bool) -> bool:
    """Whether `limit` lies beyond all that the server's swings reach; `long`: the run would have met a stall."""
    largest = float(pooled.hi.max(initial=0.0))
    if pooled.infinite or largest == 0.0 or FAR * largest <= limit:
        return not pooled.infinite
    if not long or NEAR * largest > pass_limit or len(pooled.hi) < BLOCKS:
        return False
    highest = np.log([float(block.max()) for block in np.array_split(pooled.hi, BLOCKS)])
    return math.log(pass_limit) >= float(highest.mean()) + FAR_SPREADS * float(highest.std(ddof=1))


def _roomy(estimate: float, gate: Gate) -> float:
    """Return the limit that `estimate` would lie HEADROOM within."""
    return estimate / (1 - HEADROOM) if gate.upper else estimate * (1 - HEADROOM)


def _ratio_reading(
    gate: Gate,
    parts: Sequence[Sample],
    pooled: Sample,
    values: tuple[tuple[float, float], ...],
    alpha: float,
    in_flight: float,
) -> Reading:
    """Bound the share of bad requests; a gate on the share of good ones is that, seen from the other side.

    A stall makes requests late, so goodput asks for a run as long as the percentile that says the same.
    """
    sizes = np.array([part.n for part in parts], np.float64)
    worst = [effective(np.array([[side(part).sum() for part in parts]]), sizes) for side in (_surely, _possibly)]
    worth = min(worst, key=lambda one: one.size(alpha))
    allowed = gate.limit if gate.upper else 1.0 - gate.limit
    few, many = float(pooled.lo.mean()), float(pooled.hi.mean())
    least_n = least_values(1 - allowed, in_flight) if gate.metric == "goodput" else 0
    shares = Shares(few, many, allowed, worth, least_n=least_n, spare=(1 - HEADROOM) * allowed)
    interval, estimate = share_interval(shares, alpha), shares.over
    if not gate.upper:
        estimate = 1.0 - estimate
        interval = Interval(1.0 - interval.high, 1.0 - interval.low, interval.p_under, interval.p_over)
    return Reading(gate, values, estimate, interval, pooled.n, gate.limit, gate.limit, alpha, shares)


def _surely(part: Sample) -> Values:
    return part.lo


def _possibly(part: Sample) -> Values:
    return part.hi


def _percentile_or_mean(gate: Gate, replicate: TraceTable) -> Observed:
    """Return bounds of the statistic; of nothing at all, nothing is known."""
    sample, n = gate.row.values(replicate), len(replicate)
    if gate.quantile is None:
        low, high = mean(replicate, gate.row, sample)
        return Observed(0.0, math.inf, n) if low is None or high is None else Observed(low, high, n)
    if sample.n == 0:
        return Observed(0.0, math.inf, n)
    lo, hi = (percentile(side, gate.quantile, sample.infinite) for side in (sample.lo, sample.hi))
    return Observed(lo, hi, n)


def _middle(upper: Sequence[float], *, log: bool) -> float:
    """Return the mean over replicates, of the logarithm where that is the scale."""
    if not upper or not all(math.isfinite(value) for value in upper):
        return math.inf if upper else math.nan
    if log:
        return math.exp(math.fsum(math.log(value) for value in upper) / len(upper))
    return math.fsum(upper) / len(upper)


def bad_requests(gate: Gate, gates: Sequence[Gate], table: TraceTable) -> Sample:
    """Return 1 for each request that is bad under a gate on a ratio: `lo` those that surely are, `hi` possibly.

    Errors need no guard band. The share over a latency limit has the trouble of the percentile, so for a PASS goodput
    takes a request as good only within GUARD of its latency limits.
    """
    if gate.metric == "goodput":
        limits = demands_of(gate, gates)
        guarded = [Demand(one.metric, one.limit * GUARD, one.strict) for one in limits]
        return Sample(1.0 - good(table, limits).hi, 1.0 - good(table, guarded).lo)
    return gate.row.values(table)


def _rate(gate: Gate, table: TraceTable, number: int, asked: Asked) -> float:
    """Return a rate as it would be at the contract's own.

    A Poisson schedule offers more in one window and less in another. That is no doing of the service, and is known
    exactly: the value is scaled by contract rate / offered rate. Where sending waits for answers, nothing was offered.
    """
    span = window(table, number)
    if not asked.open_loop:
        return rate(table, gate.row, span)
    return rate(table, gate.row, span) * asked.rate_rps * span.length_s / span.offered
