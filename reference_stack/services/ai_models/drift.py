"""How fast a machine was while a run was measured on it, and times with that taken out. Pure.

What else works on the hardware under a virtual machine is not seen in it: for some seconds the same work takes up to
half as long again, and then it does not. A simulation is therefore made at the usual speed of the machine, and its
times are put on the clock of the run: a second in which the machine was at half its speed is half a second of work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BIN_S = 0.5  # readings are taken together over so long: some twenty, and shorter than the machine keeps its speed


@dataclass(frozen=True, slots=True)
class Drift:
    """`slowness[i]` holds from `at_s[i]` to the next one, the first and the last beyond the ends, too.

    It is the time that the same work takes, in any unit until `relative_to` has made it a ratio.
    """

    at_s: Floats
    slowness: Floats

    def relative_to(self, usual: float) -> Drift:
        """Return the same drift, with 1 where the work takes `usual`."""
        return replace(self, slowness=self.slowness / usual)

    def worked(self, moment_s: Floats) -> Floats:
        """Return how much work is done by each of `moment_s`, in seconds of a machine whose slowness is 1."""
        place = np.clip(np.searchsorted(self.at_s, moment_s, side="right") - 1, 0, None)
        return self._done_s[place] + (moment_s - self.at_s[place]) / self.slowness[place]

    def moment(self, worked_s: Floats) -> Floats:
        """Return when so much work is done: the inverse of `worked`."""
        done_s = self._done_s
        place = np.clip(np.searchsorted(done_s, worked_s, side="right") - 1, 0, None)
        return self.at_s[place] + (worked_s - done_s[place]) * self.slowness[place]

    @property
    def _done_s(self) -> Floats:
        # Counted so that the first moment stays what it is.
        steps = np.diff(self.at_s) / self.slowness[:-1]
        done_s: Floats = self.at_s[0] + np.concatenate(([0.0], np.cumsum(steps)))
        return done_s


def drift_of(at_s: Sequence[float], taken_s: Sequence[float]) -> Drift:
    """Return the drift that readings tell: the same work begun at `at_s`, in order, took `taken_s`.

    The medians of short bins: a reading that an interrupt fell into says nothing. Raises ValueError without readings.
    """
    moments_s, seconds = np.array(at_s, dtype=float), np.array(taken_s, dtype=float)
    if not moments_s.size or moments_s.shape != seconds.shape or not (seconds > 0).all():
        raise ValueError("a reading has a moment and seconds above zero, and there is at least one")
    bins = np.floor((moments_s - moments_s[0]) / BIN_S)
    starts = np.flatnonzero(np.diff(bins, prepend=-1.0))
    medians = [float(np.median(part)) for part in np.split(seconds, starts[1:])]
    return Drift(moments_s[starts], np.array(medians))


def usual(drifts: Sequence[Drift]) -> float:
    """Return the median slowness of all of `drifts`."""
    return float(np.median(np.concatenate([one.slowness for one in drifts])))
