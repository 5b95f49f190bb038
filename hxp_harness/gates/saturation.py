"""Whether requests pile up: the service does not keep up with the rate, though they were sent on time."""

from __future__ import annotations

import numpy as np

from hxp_harness.gates.facts import RunFacts
from hxp_harness.gates.line import fit
from hxp_harness.metrics.table import Floats, TraceTable
from hxp_harness.units import format_quantity

BLOCKS = 10
# All must hold, so that the swings of a busy but stable server are not taken for a trend.
LEAST_GROWTH_SHARE = 0.01  # of the requests that arrived: the part that the service falls behind
LEAST_GROWTH = 20.0  # requests
LEAST_RATIO = 2.0  # in flight at the end against the beginning
LEAST_LATE_SHARE = 0.25  # of the growth that falls into the second half: a mere start levels off
P_TREND = 0.001


def in_flight(table: TraceTable, start_s: float, end_s: float, blocks: int) -> Floats:
    """Return how many requests were open, on average over each of so many equal parts of the time."""
    edges = np.linspace(start_s, end_s, blocks + 1)
    sent = ~np.isnan(table.sent_s)
    begun = table.sent_s[sent]
    ended = np.where(np.isnan(table.end_s[sent]), np.inf, table.end_s[sent])
    # time open before an edge, summed over requests; differences of it are the time open within a part
    open_s = np.array([np.clip(np.minimum(edge, ended) - begun, 0.0, None).sum() for edge in edges])
    return np.asarray(np.diff(open_s) / np.diff(edges))


def mean_in_flight(table: TraceTable) -> float:
    """Return how many requests were open at once on average, by Little's law; 0 for a run of no length."""
    open_s = table.end_s - table.sent_s
    sent_s = table.sent_s[~np.isnan(open_s)]
    length_s = float(np.ptp(sent_s)) if len(sent_s) else 0.0
    return float(np.nansum(open_s)) / length_s if length_s > 0 else 0.0


def saturation(table: TraceTable, facts: RunFacts) -> str:
    """Return the sentence that says so with its evidence, or nothing.

    A run that was stopped counts up to its last request: those that it left open are part of the pile.
    """
    measured = table.replicate >= 0
    if not facts.asked.open_loop or int(measured.sum()) < 2:
        return ""
    due_s = table.intended_s[measured]
    start_s, end_s = float(due_s.min()), float(due_s.max())
    if end_s <= start_s:
        return ""
    # Without the warm-up, as the watch of a run counts: the requests that an overload left open by then would hide
    # that their number grows.
    levels = in_flight(table.where(measured), start_s, end_s, BLOCKS)
    if not piles_up(levels, int(measured.sum())):
        return ""
    return (
        f"The service does not keep up with {facts.asked.rate_rps:.4g} requests a second: requests in flight grew from "
        f"{levels[0]:.0f} to {levels[-1]:.0f} in {end_s - start_s:.0f} s while every request was sent on time"
        f"{_slower(table.where(measured))}."
    )


def _slower(measured: TraceTable) -> str:
    """Return how much the median TTFT of the last tenth of answers is above that of the first, as evidence.

    Nothing where it is not: only answers that came are counted, and in a pile the slow ones have not come yet.
    """
    ttft_s = (measured.first_hi_s - measured.intended_s)[measured.ok]
    tenth = len(ttft_s) // BLOCKS
    if tenth == 0:
        return ""
    first_s, last_s = float(np.median(ttft_s[:tenth])), float(np.median(ttft_s[-tenth:]))
    if last_s <= first_s:
        return ""
    first, last = format_quantity(first_s, "time"), format_quantity(last_s, "time")
    return f", and the median TTFT went from {first} to {last}"


def piles_up(levels: Floats, arrived: int) -> bool:
    """Whether requests in flight, in BLOCKS equal parts of the time in which so many arrived, grow without end."""
    line = fit(levels.tolist())
    if line.p > P_TREND or line.rise < max(LEAST_GROWTH, LEAST_GROWTH_SHARE * arrived):
        return False
    late = float(levels[-1] - levels[BLOCKS // 2 - 1])
    return bool(levels[-1] >= LEAST_RATIO * levels[0]) and late >= LEAST_LATE_SHARE * float(levels[-1] - levels[0])
