"""What an undecided run could have seen, and how much of it would decide. Estimates for planning, no proofs."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass, replace

from hxp_harness.gates.effective import UNDERRATED
from hxp_harness.gates.evaluate import GUARD, Reading
from hxp_harness.gates.interval import ALPHA, POWER_ALPHA
from hxp_harness.gates.looks import looks
from hxp_harness.gates.shares import HEADROOM
from hxp_harness.gates.tails import chi2_point, normal_point, share_above, t_point
from hxp_harness.metrics.definitions import Kind

LEAST_REPLICATES = 8  # with fewer, half a run is hardly worth a look
MOST_REPLICATES = 10_000
LEAST_EXCESSES = 40.0
PILOT_GROWTH = 4  # no run is planned that is so many times as long as what it is planned from


def detectable(reading: Reading) -> float | None:
    """Return the smallest distance from the limit, as a share of it, that 80 of 100 such runs would decide.

    None when the replicates are too few to have a spread, or the sample is not worth enough to show the statistic.
    """
    if len(reading.values) < 2 or reading.limit == 0 or not math.isfinite(reading.estimate):
        return None
    if reading.shares is None:
        return _seen_by_replicates(reading)
    if reading.gate.row.kind is Kind.RATIO:
        size, shares = reading.shares.worth.size(reading.alpha), reading.shares
        reach = share_above(shares.over * size + _power(shares.over * size), size, reading.alpha) - shares.over
        return reach / shares.allowed
    bound = reading.interval.high if reading.gate.upper else reading.interval.low
    if not math.isfinite(bound) or bound <= 0 or reading.estimate <= 0:
        return None
    # the bound reaches so far that half of such runs would decide; for 80 of 100 it takes the normal's point more
    reach = 1 + normal_point(POWER_ALPHA) / normal_point(reading.alpha)
    return math.expm1(reach * abs(math.log(bound / reading.estimate)))


def more_replicates(reading: Reading, planned: int) -> int | None:
    """Return how many more replicates than `planned` would decide the gate in 80 of 100 runs; None: not even 1000.

    Supposes that what was seen goes on: the same shares or the same mean, the same spread.
    """
    have = len(reading.values)
    if have < 2 or not math.isfinite(reading.estimate):
        return None
    if not _decides(reading, MOST_REPLICATES):
        return None
    wanted = range(planned + 1, MOST_REPLICATES + 1)  # bounds only narrow with more, so halving finds the first
    return 1 + bisect.bisect_left(wanted, True, key=lambda total: _decides(reading, total))


@dataclass(frozen=True, slots=True)
class Plan:
    """How long a run to make next.

    Not `sure`: the next is to plan from again, since it takes longer yet, or since this one has not `seen` how slow
    requests come together.
    """

    replicates: int
    sure: bool = True
    seen: bool = True


def plan(reading: Reading) -> Plan | None:
    """Return how many replicates pass a service that lies HEADROOM within its limit, in 80 of 100 runs.

    Supposes that its slow requests come together as they were seen to, and says nothing of where the service lies. A
    run that saw fewer than LEAST_EXCESSES independent excesses does not tell how they come together, and none tells
    what a run many times as long will meet: in stages, as Stein's (1945), the next one is longer. None: not even
    MOST_REPLICATES, or nothing was seen.
    """
    have = len(reading.values)
    if have < 2 or not math.isfinite(reading.estimate):
        return None
    ahead = reading.shares.worth.ahead if reading.shares else None
    if ahead is not None and ahead.excesses < LEAST_EXCESSES:
        return Plan(max(PILOT_GROWTH * have, _least_replicates(reading)), sure=False, seen=False)
    wanted = range(LEAST_REPLICATES, MOST_REPLICATES + 1)
    found = bisect.bisect_left(wanted, True, key=lambda total: _shows_headroom(reading, total))
    if found == len(wanted):
        return None
    longest = PILOT_GROWTH * max(have, LEAST_REPLICATES) if reading.shares else MOST_REPLICATES
    return Plan(min(wanted[found], longest), sure=wanted[found] <= longest)


def _least_replicates(reading: Reading) -> int:
    """Return how many replicates have met a stall."""
    shares, have = reading.shares, len(reading.values)
    return have if shares is None else math.ceil(have * shares.least_n / max(shares.worth.n, 1))


def _shows_headroom(reading: Reading, total: int) -> bool:
    have, alpha = len(reading.values), _end_alpha(total)
    if reading.shares is not None:
        roomy = replace(reading.shares, over_pass=reading.shares.spare)
        return roomy.passes(roomy.worth.planned(total / have), alpha, normal_point(POWER_ALPHA))
    if not math.isfinite(reading.interval.spread):
        return False
    surely = math.sqrt((have - 1) / chi2_point(UNDERRATED, have - 1))  # the spread is an estimate, too
    half = (t_point(alpha, total - 1) + t_point(POWER_ALPHA, total - 1)) * reading.interval.spread * surely
    room = math.log(GUARD / (1 - HEADROOM)) if reading.interval.log else HEADROOM * reading.limit
    return half * math.sqrt(have / total) <= room


def _end_alpha(total: int) -> float:
    return ALPHA * looks(total)[-1].passes


def _power(count: float) -> float:
    return normal_point(POWER_ALPHA) * math.sqrt(count)


def _seen_by_replicates(reading: Reading) -> float | None:
    spread, freedom = reading.interval.spread, len(reading.values) - 1
    if not math.isfinite(spread):
        return None
    reach = (t_point(reading.alpha, freedom) + t_point(POWER_ALPHA, freedom)) * spread
    return math.expm1(min(reach, 700.0)) if reading.interval.log else reach / reading.limit


def _decides(reading: Reading, total: int) -> bool:
    have = len(reading.values)
    alpha = _end_alpha(total)
    if reading.shares is not None:
        worth, sure = reading.shares.worth.planned(total / have), normal_point(POWER_ALPHA)
        return reading.shares.passes(worth, alpha, sure) or reading.shares.fails(worth, alpha, sure)
    if not math.isfinite(reading.interval.spread):
        return False
    half = (t_point(alpha, total - 1) + t_point(POWER_ALPHA, total - 1)) * reading.interval.spread
    half *= math.sqrt(have / total)
    lo, hi = _ends(reading)
    if reading.interval.log:
        low, high = lo * math.exp(-half), hi * math.exp(half)
    else:
        low, high = lo - half, hi + half
    if reading.gate.upper:
        return high <= reading.pass_limit or low > reading.limit
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
