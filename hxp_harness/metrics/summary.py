"""Numbers of a run for people and for `run.json`: mean and percentiles of every metric, each with its bounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hxp_harness.metrics.definitions import METRICS, Demand, Kind, Metric, Sample, Values, good, rate, window
from hxp_harness.metrics.table import TraceTable
from hxp_harness.units import BASE_UNIT

PERCENTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_MISS = 0.01  # chance that all samples lie below the true percentile


def needed_samples(q: float) -> int:
    """Return the fewest samples that have, with 99 %, one above the true q-quantile (0 < q < 1): 90 for 0.95.

    With fewer, the largest value seen may well lie below the percentile, so the percentile cannot be told.
    """
    return math.ceil(math.log(_MISS) / math.log(q))


def percentile(values: Values, q: float, infinite: int = 0) -> float:
    """Return the order statistic of rank ceil(q n) of `values` (>= 0) and so many infinite ones; no interpolation."""
    return percentiles(values, [q], infinite)[0]


def percentiles(values: Values, shares: Sequence[float], infinite: int = 0) -> list[float]:
    """Return the same for several `shares`: numpy sorts once in the time that it takes to select three times."""
    total = len(values) + infinite
    ranks = [max(math.ceil(q * total - 1e-9), 1) for q in shares]
    finite = sorted({rank for rank in ranks if rank <= len(values)})
    if not finite:
        return [math.inf] * len(ranks)
    placed = np.partition(values, finite[0] - 1) if len(finite) == 1 else np.sort(values)
    return [float(placed[rank - 1]) if rank <= len(values) else math.inf for rank in ranks]


@dataclass(frozen=True, slots=True)
class Numbers:
    """Mean and percentiles in a base unit; None: undefined, or too few samples. Failures are left out of a mean."""

    mean: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """One metric over some requests. The true numbers lie between `lo` and `hi`; a rate or ratio has only a mean."""

    unit: str
    n: int
    lo: Numbers
    hi: Numbers

    def to_dict(self) -> dict[str, object]:
        """Return the row of `run.json`: the upper bounds, and the lower ones under `lo`; infinite becomes "inf"."""
        row: dict[str, object] = {"unit": self.unit, "n": self.n}
        row |= _row(self.hi)
        row["lo"] = _row(self.lo)
        return row


def _row(numbers: Numbers) -> dict[str, object]:
    values = {name: getattr(numbers, name) for name in ("mean", *PERCENTILES)}
    return {name: "inf" if value == math.inf else value for name, value in values.items()}


def summarise(table: TraceTable, demands: Sequence[Demand] = (), *, complete: int = 0) -> dict[str, Summary]:
    """Return every metric over the measured requests; `demands` are the latency gates, for goodput.

    Of a run that ended early only the first `complete` replicates count, unless there is none: requests that were
    open at its end have not failed.
    """
    replicates = [number for number in table.replicates if not complete or number < complete]
    measured = table.where((table.replicate >= 0) & (table.replicate < complete)) if complete else table.measured
    return {name: _summary(table, measured, metric, demands, replicates) for name, metric in METRICS.items()}


def summarise_replicates(table: TraceTable, demands: Sequence[Demand] = ()) -> dict[int, dict[str, Summary]]:
    """Return the same for each replicate."""
    found = {}
    for replicate in table.replicates:
        own = table.select(replicate)
        found[replicate] = {
            name: _summary(table, own, metric, demands, [replicate]) for name, metric in METRICS.items()
        }
    return found


def _summary(
    table: TraceTable, measured: TraceTable, metric: Metric, demands: Sequence[Demand], replicates: Sequence[int]
) -> Summary:
    """Return one metric of the requests that were `measured`, which are those of `replicates`."""
    if metric.kind is Kind.RATE:
        return _rate_summary(table, metric, replicates)
    sample = good(measured, demands) if metric.name == "goodput" else metric.values(measured)
    mean_lo, mean_hi = mean(measured, metric, sample)
    if metric.kind is Kind.RATIO:
        return Summary(BASE_UNIT[metric.dimension], sample.n, Numbers(mean_lo), Numbers(mean_hi))
    lo, hi = (_told(side, sample.infinite) for side in (sample.lo, sample.hi))
    return Summary(BASE_UNIT[metric.dimension], sample.n, Numbers(mean_lo, **lo), Numbers(mean_hi, **hi))


def _rate_summary(table: TraceTable, metric: Metric, replicates: Sequence[int]) -> Summary:
    spans = [window(table, replicate) for replicate in replicates]
    length_s = sum(span.length_s for span in spans)
    total = sum(rate(table, metric, span) * span.length_s for span in spans)
    numbers = Numbers(total / length_s if length_s > 0 else None)
    return Summary(BASE_UNIT[metric.dimension], sum(span.offered for span in spans), numbers, numbers)


def _told(values: Values, infinite: int) -> dict[str, float]:
    """Return the percentiles that so many values can tell."""
    known = [name for name, q in PERCENTILES.items() if len(values) + infinite >= needed_samples(q)]
    return dict(zip(known, percentiles(values, [PERCENTILES[name] for name in known], infinite), strict=True))


def mean(table: TraceTable, metric: Metric, sample: Sample) -> tuple[float | None, float | None]:
    """Return bounds of the mean over values that are finite; None when there are none.

    Gaps of one request add up to last minus first token, so their mean is known better than each of them.
    """
    if len(sample.lo) == 0:
        return None, None
    if metric.name == "itl":
        own = table.where(table.gap_count > 0)
        gaps = len(sample.lo)
        lo_s, hi_s = own.last_lo_s - own.first_hi_s, own.last_hi_s - own.first_lo_s
        return float(np.maximum(lo_s, 0.0).sum()) / gaps, float(hi_s.sum()) / gaps
    return float(sample.lo.mean(dtype=np.float64)), float(sample.hi.mean(dtype=np.float64))
