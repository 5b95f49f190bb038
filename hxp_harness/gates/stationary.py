"""Whether a run has one level to judge: where its warm-up ends, whether it drifts, whether it jumps. Pure.

All work on the logarithm of latency in order of the schedule.

- Warm-up: MSER-5 (White 1997) drops so many first requests, in fives, as make the standard error of what is left
  smallest. A cut counts only if what it drops lies clearly off what stays: a quiet series needs none.
- Drift: means of parts of the run, joined until neighbours no longer resemble each other (or a busy server's slow
  swings would pass for a trend), and a straight line through them.
- Jumps: means of the eighths of the run, and every place between them, each place paid for (Bonferroni).
- A rise: the same line as for a drift, carried on to the end of a run that is under way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hxp_harness.gates.effective import LEAST_PARTS, LIKENESS, PARTS
from hxp_harness.gates.line import Line, fit
from hxp_harness.gates.tails import t_above

Floats = NDArray[np.float64]

BATCH = 5
MOST_CUT = 0.25  # of the run; what has not settled by then has not settled
LEAST_CHANGE = 0.10  # of latency: less is no matter of a verdict
P_CHANGE = 0.0002
P_RISE = 0.05  # of a trend that keeps a run from ending early
CLEARLY_OFF = 4.0  # standard errors
MARGIN = 1.5  # times the cut that MSER-5 finds: what decays still decays there
LEAST_REQUESTS = 200


@dataclass(frozen=True, slots=True)
class Change:
    """Latency changed by the factor `factor`: steadily over the run, or at `place` (a share of the run)."""

    factor: float
    place: float | None = None


def settled_after(latency_s: Floats) -> int:
    """Return how many first requests belong to the warm-up; len(latency_s) when it never settles."""
    if len(latency_s) < LEAST_REQUESTS:
        return 0
    batches = len(latency_s) // BATCH
    logs = np.log(latency_s[: batches * BATCH]).reshape(batches, BATCH).mean(axis=1)
    left = np.arange(batches, 0, -1, dtype=np.float64)
    sums, squares = (np.cumsum(values[::-1])[::-1] for values in (logs, logs * logs))
    error = (squares - sums * sums / left) / (left * left)
    cut = int(np.argmin(error[: batches // 2]))
    if cut == 0 or not _off(logs[:cut], logs[cut:]):
        return 0
    return len(latency_s) if cut > MOST_CUT * batches else round(MARGIN * cut) * BATCH


def _off(dropped: Floats, kept: Floats) -> bool:
    """Whether what is dropped lies clearly off what is kept, by its stretches of the same length."""
    size = len(dropped)
    means = kept[: len(kept) // size * size].reshape(-1, size).mean(axis=1)
    spread = float(means.std(ddof=1)) if len(means) > 2 else float(kept.std(ddof=1))
    gap = abs(float(dropped.mean() - kept.mean()))
    return gap > max(math.log1p(LEAST_CHANGE), CLEARLY_OFF * spread)


def change(latency_s: Floats) -> Change | None:
    """Return how latency changed in the course of the run, or None when chance explains it."""
    if len(latency_s) < LEAST_REQUESTS:
        return None
    logs = np.log(latency_s)
    means = np.array([part.mean() for part in np.array_split(logs, PARTS)])
    line, jump = _trend(means), _jump(means)
    return min((found for found in (line, jump) if found), key=lambda pair: pair[0], default=(1.0, None))[1]


def rises(latency_s: Floats, part: float) -> bool:
    """Whether latency, seen for the share `part` of a run, would rise too far if what it shows goes on to the end."""
    if len(latency_s) < LEAST_REQUESTS:
        return False
    line = _line(np.array([piece.mean() for piece in np.array_split(np.log(latency_s), PARTS)]))
    return line.p < P_RISE and line.rise / part > math.log1p(LEAST_CHANGE)


def _line(means: Floats) -> Line:
    return fit(_unlike(means, lambda values: values - _straight(values)).tolist())


def _trend(means: Floats) -> tuple[float, Change] | None:
    line = _line(means)
    p = 2 * min(line.p, 1 - line.p)
    factor = math.exp(line.rise)
    return (p, Change(factor)) if p < P_CHANGE / 2 and _matters(factor) else None


def _jump(means: Floats) -> tuple[float, Change] | None:
    """Look for one step between eighths of the run: a swing that comes and goes is shorter, and no step."""
    eighths = means.reshape(LEAST_PARTS, -1).mean(axis=1)
    place, t = _place(eighths)
    p = 2 * (LEAST_PARTS - 3) * t_above(t, LEAST_PARTS - 2)
    factor = math.exp(float(eighths[place:].mean() - eighths[:place].mean()))
    return (p, Change(factor, _place(means)[0] / len(means))) if p < P_CHANGE / 2 and _matters(factor) else None


def _matters(factor: float) -> bool:
    return max(factor, 1 / factor) > 1 + LEAST_CHANGE


def _place(values: Floats) -> tuple[int, float]:
    """Return where the two sides differ most, and by how many standard errors; each side has two values or more."""
    best, size = 2, 0.0
    for place in range(2, len(values) - 1):
        left, right = values[:place], values[place:]
        squares = float(((left - left.mean()) ** 2).sum() + ((right - right.mean()) ** 2).sum())
        error = math.sqrt(squares / (len(values) - 2) * (1 / len(left) + 1 / len(right)))
        t = abs(float(right.mean() - left.mean())) / error if error else math.inf
        if t > size:
            best, size = place, t
    return best, size


def _straight(values: Floats) -> Floats:
    x = np.arange(len(values)) - (len(values) - 1) / 2
    return np.asarray(values.mean() + x * float((x * values).sum() / (x * x).sum()))


def _unlike(means: Floats, rest_of: Callable[[Floats], Floats]) -> Floats:
    """Join neighbours until what the model leaves of them no longer looks alike."""
    while len(means) >= 2 * LEAST_PARTS:
        rest = rest_of(means)
        squares = float((rest * rest).sum())
        likeness = float((rest[1:] * rest[:-1]).sum()) / squares if squares else 0.0
        if likeness < LIKENESS / math.sqrt(len(means)):
            break
        means = means[: len(means) // 2 * 2].reshape(-1, 2).mean(axis=1)
    return means
