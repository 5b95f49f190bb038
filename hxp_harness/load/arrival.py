"""When requests should be sent. Pure: same arrival, same seed, same offsets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hxp_harness.errors import UsageError, nearest

ARRIVALS = ("constant", "poisson")


def offsets_s(arrival: str, rate_rps: float, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return `count` ascending offsets in seconds from the start, `rate_rps` of them a second on average.

    `constant` sends every 1/rate_rps seconds from 0. `poisson` draws independent exponential gaps; they are never
    rescaled to hit the mean rate, which would make the count of a window less random than a Poisson process has it.
    Raises UsageError for an unknown arrival.
    """
    if arrival == "constant":
        return np.arange(count, dtype=np.float64) / rate_rps
    if arrival == "poisson":
        return np.cumsum(rng.exponential(1.0 / rate_rps, size=count))
    raise UsageError(f"unknown arrival {arrival!r}", hint=nearest(arrival, ARRIVALS))
