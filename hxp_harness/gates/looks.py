"""When a run is looked at, and what chance of error each look may spend.

A run is looked at when half of it is measured and at its end. The chance of a wrong bound is shared out between the two
beforehand (alpha spending, Lan and DeMets 1983) and simply added up (Bonferroni), which holds however the two looks
depend on each other. What is clear is decided at half; what is close loses little: the end has three quarters.
"""

from __future__ import annotations

import math

HALF_SHARE = 0.25


def half(planned: int) -> int:
    """Return the number of complete replicates at which a run of `planned` is looked at before its end; 0: never."""
    found = math.ceil(planned / 2)
    return found if 2 <= found < planned else 0


def share_of_alpha(done: int, planned: int) -> float | None:
    """Return the part of the chance of error that may be spent after `done` replicates; None: this is no look."""
    if done >= planned:
        return 1.0 - HALF_SHARE if half(planned) else 1.0
    return HALF_SHARE if done == half(planned) else None
