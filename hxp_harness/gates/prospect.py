"""What an undecided run could have seen, and how much more of it would decide. Estimates for planning, no proofs."""

from __future__ import annotations

import bisect
import math

from hxp_harness.gates.evaluate import Reading
from hxp_harness.gates.interval import ALPHA, POWER_ALPHA
from hxp_harness.gates.tails import share_above, t_point
from hxp_harness.metrics.definitions import Kind

MOST_REPLICATES = 1000


def detectable(reading: Reading) -> float | None:
    """Return the smallest distance from the limit, as a share of it, that 80 of 100 such runs would decide.

    None when the replicates are too few to have a spread.
    """
    spread, replicates = reading.interval.spread, len(reading.values)
    if not math.isfinite(spread) or replicates < 2 or reading.limit == 0:
        return None
    reach = (t_point(ALPHA, replicates - 1) + t_point(POWER_ALPHA, replicates - 1)) * spread
    if reading.interval.log:
        return math.expm1(min(reach, 700.0))
    limit = reading.limit
    if reading.gate.row.kind is Kind.RATIO:
        limit = limit if reading.gate.upper else 1.0 - limit
        seen = reading.estimate if reading.gate.upper else 1.0 - reading.estimate
        reach = max(reach, share_above(seen * reading.n, reading.n, ALPHA) - seen)
    return reach / limit


def more_replicates(reading: Reading) -> int | None:
    """Return how many more replicates like these would decide the gate; None when no number up to 1000 would.

    Supposes that what was seen goes on: the same mean, the same spread from replicate to replicate.
    """
    have = len(reading.values)
    if have < 2 or not math.isfinite(reading.interval.spread) or not math.isfinite(reading.estimate):
        return None
    if not _decides(reading, MOST_REPLICATES):
        return None
    wanted = range(have + 1, MOST_REPLICATES + 1)  # bounds only narrow with more, so halving finds the first
    return 1 + bisect.bisect_left(wanted, True, key=lambda total: _decides(reading, total))


def _decides(reading: Reading, total: int) -> bool:
    have = len(reading.values)
    half = t_point(ALPHA, total - 1) * reading.interval.spread * math.sqrt(have / total)
    lo, hi = _ends(reading)
    if reading.interval.log:
        low, high = lo * math.exp(-half), hi * math.exp(half)
    else:
        low, high = lo - half, hi + half
    if reading.gate.row.kind is Kind.RATIO:
        n = reading.n * total / have
        bad = high - half if reading.gate.upper else 1.0 - (low + half)
        most = share_above(bad * n, n, ALPHA)
        low, high = (low, max(high, most)) if reading.gate.upper else (min(low, 1.0 - most), high)
    if reading.gate.upper:
        over = reading.over_seen + (reading.over - reading.over_seen) * math.sqrt(have / total)
        return (high <= reading.pass_limit and over <= reading.over_allowed) or low > reading.limit
    return low >= reading.pass_limit or high < reading.limit


def _ends(reading: Reading) -> tuple[float, float]:
    """Return the mean over replicates of the lower and of the upper ends."""
    count = len(reading.values)
    ends = [[pair[side] for pair in reading.values] for side in (0, 1)]
    if reading.interval.log and all(math.isfinite(value) for side in ends for value in side):
        low, high = (math.exp(math.fsum(math.log(value) for value in side) / count) for side in ends)
    else:
        low, high = (math.fsum(side) / count for side in ends)
    return low, high
