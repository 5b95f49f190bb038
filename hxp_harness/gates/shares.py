"""Gates that count requests: a share of bad ones within the share allowed. A percentile is such a gate, too.

`e2e p95 <= 2 s` says that at most 5 % of requests take over 2 s. Counting those is unbiased in a sample of any length,
where the percentile of a short and clustered one leans to the low side. So a percentile is bounded by the order
statistics that the bounds of a share point at (Woodruff 1952), and the share by Clopper and Pearson's interval for as
many requests as the sample is worth (Korn and Graubard 1998).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hxp_harness.gates.effective import Effective
from hxp_harness.gates.interval import ALPHA, Interval
from hxp_harness.gates.tails import binomial_at_least, least_seen, most_seen, share_above, share_below
from hxp_harness.metrics.definitions import Sample
from hxp_harness.metrics.summary import needed_samples, percentile

# A PASS of a percentile needs a sample worth this many times the fewest requests that could show it. A run of less may
# have met a quiet hour of a server that is not quiet, and nothing in it would tell.
LEAST_WORTH = 3.0
HEADROOM = 0.10  # what the planner plans to show


@dataclass(frozen=True, slots=True)
class Shares:
    """Bad values as shares of all: possibly `over_pass` (beyond the pass limit), surely `over` (beyond the limit)."""

    over: float
    over_pass: float
    allowed: float
    worth: Effective
    least: float = 0.0  # size that the sample must be worth for a PASS
    least_n: int = 0  # and how many values it must have
    spare: float = math.nan  # what `over_pass` would be if the statistic lay HEADROOM within its limit

    def enough(self, worth: Effective, alpha: float) -> bool:
        """Whether so large a sample can pass at all."""
        return worth.size(alpha) >= self.least and worth.n >= self.least_n

    def passes(self, worth: Effective, alpha: float, sure: float = 0.0) -> bool:
        """Whether a sample worth so much, with the same shares, passes; `sure` adds standard errors for power."""
        if not self.enough(worth, alpha):
            return False
        size = worth.size(alpha)
        seen = self.over_pass + sure * math.sqrt(self.over_pass * (1 - self.over_pass) / size)
        return share_above(seen * size, size, alpha) <= self.allowed

    def fails(self, worth: Effective, alpha: float, sure: float = 0.0) -> bool:
        size = worth.size(alpha)
        seen = self.over - sure * math.sqrt(self.over * (1 - self.over) / size)
        return share_below(seen * size, size, alpha) > self.allowed


def share_interval(shares: Shares, alpha: float) -> Interval:
    """Bound a share of bad requests."""
    size = shares.worth.size(alpha)
    return Interval(
        low=share_below(shares.over * size, size, alpha),
        high=share_above(shares.over_pass * size, size, alpha),
        p_over=binomial_at_least(shares.over * size, size, shares.allowed),
        p_under=binomial_at_least((1 - shares.over_pass) * size, size, 1 - shares.allowed),
    )


def percentile_interval(pooled: Sample, q: float, limit: float, worth: Effective, alpha: float) -> Interval:
    """Bound the true q-quantile by order statistics of all values together."""
    size, n = worth.size(alpha), pooled.n
    most, least = most_seen(1 - q, size, alpha), least_seen(1 - q, size, alpha)
    over = (int((pooled.lo > limit).sum()) + pooled.infinite) / n
    under = int((pooled.hi < limit).sum()) / n
    return Interval(
        low=0.0 if least > 1 else percentile(pooled.lo, (n - math.ceil(least * n) + 1) / n, pooled.infinite),
        high=math.inf if most < 0 else percentile(pooled.hi, 1 - most, pooled.infinite),
        p_over=binomial_at_least(over * size, size, 1 - q),
        p_under=binomial_at_least(under * size, size, q),
    )


def least_worth(q: float) -> float:
    """Return how many independent requests a sample must be worth to pass a gate on the q-quantile."""
    return LEAST_WORTH * needed_samples(q)


def least_values(q: float, together: float) -> int:
    """Return how many values a run must have to have met a stall, with 99 %, if the server is at its limit.

    What never came shows nowhere in a run. A stall makes all requests in flight slow, `together` of them; so a server
    that is at the limit by stalls alone has one in together / (1 - q) requests, and none in a run is chance. 0 when
    `together` is: nothing is asked.
    """
    if together == 0.0:
        return 0
    return math.ceil(max(together, 1.0) * math.log(1 / ALPHA) / (1 - q) - 1e-6)


def share_beyond(pooled: Sample, limit: float, *, upper: bool, surely: bool) -> float:
    """Return the share of values on the wrong side of `limit`, `surely` or possibly."""
    if upper:
        return (int(np.sum((pooled.lo if surely else pooled.hi) > limit)) + pooled.infinite) / pooled.n
    return int(np.sum((pooled.hi if surely else pooled.lo) < limit)) / pooled.n
