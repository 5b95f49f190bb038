"""When a run is looked at, and what chance of error each look may spend.

A run is looked at when an eighth of it is measured (only for what has failed), when half is, and at its end. The chance
of a wrong bound is shared out between the looks beforehand (alpha spending, Lan and DeMets 1983) and simply added up
(Bonferroni), which holds however they depend on each other. What is clear is decided early; what is close loses
little: the end has most of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

EARLY_FAILS = 0.2  # of the chance of a false FAIL
HALF_PASSES, HALF_FAILS = 0.25, 0.25


@dataclass(frozen=True, slots=True)
class Look:
    """What may be said after `done` complete replicates: `passes` and `fails` are the shares of the chance of error."""

    done: int
    passes: float
    fails: float


def looks(planned: int) -> tuple[Look, ...]:
    """Return the looks at a run of so many replicates, in order; the last is its end."""
    early, half = math.ceil(planned / 8), math.ceil(planned / 2)
    before = []
    if 4 * early <= planned:
        before.append(Look(early, 0.0, EARLY_FAILS))
    if 2 <= half < planned:
        before.append(Look(half, HALF_PASSES, HALF_FAILS))
    passes, fails = (1.0 - math.fsum(getattr(look, side) for look in before) for side in ("passes", "fails"))
    return (*before, Look(planned, passes, fails))


def look_at(done: int, planned: int) -> Look | None:
    """Return the look after `done` complete replicates; None: there is none."""
    return next((look for look in looks(planned) if look.done == min(done, planned)), None)
