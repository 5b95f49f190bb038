"""The course of a run: from which request on it is judged, and whether it held one level from there to its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hxp_harness.gates.stationary import Change, change, rises, settled_after
from hxp_harness.metrics.table import TraceTable


@dataclass(frozen=True, slots=True)
class Course:
    """Requests before the index `settled` belong to the warm-up, beyond that of the contract; `cut` of them do."""

    settled: int = 0
    cut: int = 0
    change: Change | None = None
    ever: bool = True  # False: it never settled
    looked: bool = False  # whether there were enough requests to look at
    rises: bool = False  # too far, if it goes on to the end of the run


def course_of(table: TraceTable, replicates: Sequence[int], part: float = 1.0) -> Course:
    """Look at e2e of the requests that succeeded in the complete replicates, in order of the schedule.

    They are the share `part` of the planned run.
    """
    e2e_s = table.last_hi_s - table.intended_s
    chosen = table.ok & np.isin(table.replicate, replicates) & (e2e_s > 0)
    if not chosen.any():
        return Course()
    order = np.argsort(table.index[chosen], kind="stable")
    index, latency_s = table.index[chosen][order], e2e_s[chosen][order]
    cut = settled_after(latency_s)
    if cut == len(latency_s):
        return Course(change=change(latency_s), ever=False, looked=True)
    settled = int(index[cut]) if cut else 0
    kept_s = latency_s[cut:]
    return Course(settled, cut, change(kept_s), looked=len(kept_s) > 0, rises=part < 1.0 and rises(kept_s, part))
