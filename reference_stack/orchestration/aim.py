"""How near a prediction should be: 15 % for a median, 25 % for a p95, or what real runs differ by. Pure.

Runs that repeat one load are one row. Each is held against its own prediction, which knows how fast the machine was:
the median of those errors is the row's. Its spread is by how much the runs still differ then: the largest ratio of
measured to predicted less the smallest, over their median. A prediction cannot be nearer to all of them than they are
to each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from reference_stack.orchestration.loads import first_of
from reference_stack.services.ai_models.calibrate import Observed
from reference_stack.services.ai_models.physics import Device

LIMITS = {"p50": 0.15, "p95": 0.25, "mean": 0.15}
_HEAD = ("load", "figure", "measured", "spread", "predicted", "error", "aim", "")


@dataclass(frozen=True, slots=True)
class Judged:
    """One figure of one load, in seconds, medians of its runs; `spread` is a part, None where it was measured once."""

    load: str
    figure: str
    seen_s: float
    spread: float | None
    predicted_s: float
    error: float

    @property
    def limit(self) -> float:
        return LIMITS[self.figure.split()[1]]

    @property
    def aim(self) -> float:
        return max(self.limit, self.spread or 0.0)

    @property
    def met(self) -> bool:
        return abs(self.error) <= self.aim


def judge(device: Device, held_back: Sequence[Observed]) -> list[Judged]:
    """Return every figure of every load of `held_back`, in order; runs that repeat one are taken together."""
    loads: dict[str, list[Observed]] = {}
    for run in held_back:
        loads.setdefault(first_of(run.name), []).append(run)
    judged = []
    for name, runs in loads.items():
        seen, predicted = [run.figures for run in runs], [run.predicted(device) for run in runs]
        for figure in seen[0]:
            seen_s, predicted_s = (np.array([one[figure] for one in kind]) for kind in (seen, predicted))
            over = seen_s / predicted_s
            spread = float(np.ptp(over) / np.median(over)) if over.size > 1 else None
            error = float(np.median(1.0 / over)) - 1.0
            judged.append(Judged(name, figure, float(np.median(seen_s)), spread, float(np.median(predicted_s)), error))
    return judged


def page(judged: Sequence[Judged]) -> Iterator[str]:
    """Yield the table, and of how many figures the prediction is as near as it should be."""
    if not judged:
        return
    rows = cells(judged)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    yield from ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    yield f"\n{counts(judged)}"


def cells(judged: Sequence[Judged]) -> list[tuple[str, ...]]:
    """Return the table as text, its head first."""
    return [_HEAD, *(_cells(one) for one in judged)]


def counts(judged: Sequence[Judged]) -> str:
    """Return of how many figures the prediction is near enough."""
    met = sum(one.met for one in judged)
    bare = sum(abs(one.error) <= one.limit for one in judged)
    return (
        f"within 15 % (p50), 25 % (p95) or what real runs of one load differ by: {met} of {len(judged)} figures; "
        f"{bare} of them without looking at what real runs differ by"
    )


def _cells(one: Judged) -> tuple[str, ...]:
    spread = "-" if one.spread is None else f"{one.spread:.0%}"
    times = (f"{one.seen_s * 1e3:.4g} ms", spread, f"{one.predicted_s * 1e3:.4g} ms")
    return (one.load, one.figure, *times, f"{one.error:+.0%}", f"{one.aim:.0%}", "" if one.met else "missed")
