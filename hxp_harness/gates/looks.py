"""When a run is looked at, and what chance of error each look may spend.

The chance of a wrong bound is shared out between the looks beforehand (alpha spending, Lan and DeMets 1983) and simply
added up (Bonferroni), which holds however they depend on each other. What is clear is decided early; what is close
loses little: the end has most of it.

A part of a run does not show a drift that the whole would: up to LEAST_CHANGE may hide in it. Going on, it raises the
average over the run, and a PASS that comes early leaves room for that. None comes where a rise is seen that makes more
of it over the whole run (`gates.stationary.rises`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from hxp_harness.gates.interval import ALPHA
from hxp_harness.gates.stationary import LEAST_CHANGE

# After which part of a run, and the shares of the chance of a false PASS and of a false FAIL that it spends.
BEFORE_THE_END = ((1 / 16, 0.0, 0.1), (1 / 8, 0.0, 0.15), (1 / 4, 0.1, 0.15), (1 / 2, 0.2, 0.2))
LEAST_TO_PASS = 2  # replicates
LEAST_TO_FAIL = 1


@dataclass(frozen=True, slots=True)
class Look:
    """What may be said after `done` complete replicates: `passes` and `fails` are the shares of the chance of error.

    `part` is the share of the run that is done.
    """

    done: int
    passes: float
    fails: float
    part: float = 1.0

    @property
    def alpha(self) -> float:
        """The chance of error of the bounds; at a look for failures alone, theirs."""
        return ALPHA * (self.passes or self.fails)

    @property
    def room(self) -> float:
        """The part of what is enough at the end of the run that latency must lie within for a PASS."""
        return room_at(self.part)


def looks(planned: int) -> tuple[Look, ...]:
    """Return the looks at a run of so many replicates, in order; the last is its end.

    A look comes when its part is complete. Those that would come at once are one, with the shares of both.
    """
    shares: dict[int, tuple[float, float]] = {}
    for part, passes, fails in BEFORE_THE_END:
        done = math.ceil(part * planned)
        if done < planned and (done > 1 or planned >= 4):
            before = shares.get(done, (0.0, 0.0))
            shares[done] = (before[0] + (passes if done >= LEAST_TO_PASS else 0.0), before[1] + fails)
    spent = [math.fsum(one[side] for one in shares.values()) for side in (0, 1)]
    before_the_end = (Look(done, *one, done / planned) for done, one in shares.items())
    return (*before_the_end, Look(planned, 1.0 - spent[0], 1.0 - spent[1]))


def room_at(part: float) -> float:
    """Return by what a drift that does not show in so large a part of a run divides what is left of a limit."""
    return 1.0 / (1.0 + LEAST_CHANGE * (1.0 / part - 1.0) / 2)


def look_at(done: int, planned: int) -> Look | None:
    """Return the look after `done` complete replicates; None: there is none."""
    return next((look for look in looks(planned) if look.done == min(done, planned)), None)
