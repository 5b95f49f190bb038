"""A straight line through equally spaced points, and the chance of its rise by accident."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hxp_harness.gates.tails import t_above


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line through equally spaced points: its rise over all of them, and the chance of it by accident."""

    rise: float
    p: float


def fit(values: Sequence[float]) -> Line:
    """Fit by least squares; `p` is one-sided, for a rise (for a fall it is near 1). Needs 3 values or more."""
    y = np.asarray(values, np.float64)
    x = np.arange(len(y), dtype=np.float64)
    x -= x.mean()
    slope = float((x * y).sum() / (x * x).sum())
    rest = y - y.mean() - slope * x
    error = float(np.sqrt((rest * rest).sum() / (len(y) - 2) / (x * x).sum()))
    rise = slope * (len(y) - 1)
    if error <= 1e-12 * max(abs(slope), 1e-300):
        return Line(rise, 0.0 if slope > 0 else 1.0)
    return Line(rise, t_above(slope / error, len(y) - 2))
