"""Whether requests pile up, seen while the run goes on: an overload need not be measured to its end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hxp_harness.gates.saturation import BLOCKS, piles_up

LEAST_ARRIVED = 500  # requests
LEAST_SHARE = 0.10  # of what arrived that is open: a service that falls behind by less is judged at the end
_POINTS = 10  # in each block


class Pile:
    """Counts requests due and ended; `due_s` are the intended times of the measured requests, ascending."""

    def __init__(self, due_s: Sequence[float]) -> None:
        self._due_s = np.asarray(due_s, np.float64)
        self._ended_s: list[float] = []

    def see(self, ends_s: Sequence[float | None]) -> bool:
        """Take the ends of more requests; return whether so many are open that the service cannot keep up.

        The end of the last answer stands for the present: what is due by then and has no end is open.
        """
        new = [end_s for end_s in ends_s if end_s is not None]
        self._ended_s += new
        if not new:
            return False
        now_s = max(self._ended_s)
        arrived = int(np.searchsorted(self._due_s, now_s, "right"))
        if arrived < LEAST_ARRIVED or arrived - len(self._ended_s) < LEAST_SHARE * arrived:
            return False
        at_s = np.linspace(self._due_s[0], now_s, BLOCKS * _POINTS)
        due, ended = (np.searchsorted(times, at_s, "right") for times in (self._due_s, np.sort(self._ended_s)))
        return piles_up((due - ended).reshape(BLOCKS, _POINTS).mean(axis=1), arrived)
