"""When requests should be sent. Pure: same arrival, same seed, same offsets.

Nothing is rescaled after drawing: gaps that are stretched to hit a mean rate are no longer those of their process.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # pydantic is not needed to draw
    from hxp_harness.arrivals import AnyArrival

Floats = NDArray[np.float64]
Corners = Sequence[tuple[float, float]]


def offsets_s(
    arrival: AnyArrival, rate_rps: float, sizes: Sequence[int], rng: np.random.Generator, times_s: Floats | None = None
) -> Floats:
    """Return ascending offsets in seconds from the start, `rate_rps` a second on average.

    `sizes` are how many requests the warm-up (may be 0) and each window have; their sum is drawn. `times_s` are the
    recorded times of a replay, at least so many. A closed loop has no schedule: what is returned is when its requests
    would be due at `rate_rps`.
    """
    count = sum(sizes)
    if arrival.kind == "constant" or arrival.kind == "closed":  # noqa: PLR1714 - mypy narrows a union by this alone
        return np.arange(count, dtype=np.float64) / rate_rps
    if arrival.kind == "gamma":
        # A gamma gap of shape k has a cv of 1 / sqrt(k).
        return np.cumsum(rng.gamma(arrival.cv**-2, arrival.cv**2 / rate_rps, size=count))
    if arrival.kind == "replay":
        recorded_s = np.zeros(0) if times_s is None else times_s
        return recorded_s[:count] - recorded_s[0] if count else recorded_s[:0]
    gaps = rng.exponential(size=count)
    if arrival.kind == "poisson":
        return np.cumsum(gaps) / rate_rps
    return _patterned(arrival.corners_rps, gaps, sizes)


def _patterned(corners_rps: Corners, gaps: Floats, sizes: Sequence[int]) -> Floats:
    """Return arrivals of an inhomogeneous Poisson process whose rate begins its pattern again with each window.

    By time change: `gaps` are those of a process of rate 1, and the moment at which the cumulated rate reaches their
    sum is the arrival (Cinlar, Introduction to Stochastic Processes, 4.7). The warm-up has the pattern's first rate.
    """
    warm_up, *windows = sizes
    found = [np.cumsum(gaps[:warm_up]) / corners_rps[0][0]]
    start_s = float(found[0][-1]) if warm_up else 0.0
    ends = itertools.accumulate(windows, initial=warm_up)
    for (first, end), size in zip(itertools.pairwise(ends), windows, strict=True):
        found.append(start_s + _when(corners_rps, np.cumsum(gaps[first:end]), size))
        start_s = float(found[-1].max(initial=start_s))
    return np.concatenate(found)


def _when(corners_rps: Corners, reached: Floats, size: int) -> Floats:
    """Return when the cumulated rate of one pattern, in which `size` requests are expected, is `reached`.

    Within a piece the rate is r0 + s t, so the time t to cumulate R solves r0 t + s t^2 / 2 = R; the form below has no
    cancellation and holds for s = 0. Behind its end the pattern keeps its last rate.
    """
    heights = np.array([(first + last) / 2 for first, last in corners_rps])
    piece_s = size / float(heights.sum())
    before = np.concatenate(([0.0], np.cumsum(heights * piece_s)))
    place = np.clip(np.searchsorted(before, reached, side="right") - 1, 0, len(heights) - 1)
    first, last = (np.array([corner[side] for corner in corners_rps])[place] for side in (0, 1))
    slope = (last - first) / piece_s
    left = reached - before[place]
    inside_s = 2.0 * left / (first + np.sqrt(np.maximum(first**2 + 2.0 * slope * left, 0.0)))
    beyond_s = piece_s + (left - heights[place] * piece_s) / last
    after_s: Floats = place * piece_s + np.where(reached > before[-1], beyond_s, inside_s)
    return after_s
