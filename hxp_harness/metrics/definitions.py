"""What each metric is: one row each, computed from traces as bounds, never as points.

Latencies count from the intended time. A failed or truncated request has latency +infinity. Where an arrival is known
only to lie between two readings, so is everything computed from it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hxp_harness.metrics.table import Bools, Floats, Ints, TraceTable

Values = NDArray[np.float64] | NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Bounds of each value, none below 0 in order statistics, and how many more values are infinite (failures)."""

    lo: Values
    hi: Values
    infinite: int = 0

    @property
    def n(self) -> int:
        return len(self.lo) + self.infinite


class Kind(enum.StrEnum):
    """How a number is made of the values of single requests."""

    SAMPLE = "sample"  # a percentile or the mean of the values
    RATIO = "ratio"  # the mean of zeros and ones
    RATE = "rate"  # their sum over requests that ended in the window, divided by its length


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `values` gives the bounds of each request's value, in the base unit of `dimension`."""

    name: str
    dimension: str  # of hxp_harness.units
    kind: Kind
    says: str
    values: Callable[[TraceTable], Sample]
    better: str = "lower"  # lower | higher | either: which side a gate may limit
    about: str = "server"  # server | harness: a gate may be only on the server's
    streaming: bool = False  # undefined without streaming


@dataclass(frozen=True, slots=True)
class Demand:
    """One latency limit that each single request must meet to be good."""

    metric: str
    limit: float
    strict: bool = False  # below, not at


def _latency(table: TraceTable, lo: Floats, hi: Floats) -> Sample:
    """Take complete requests; all others, and those that never sent a token, count as infinite."""
    fine = table.ok & ~np.isnan(hi)
    return Sample(np.maximum(lo[fine], 0.0), np.maximum(hi[fine], 0.0), int(len(fine) - fine.sum()))


def _e2e(table: TraceTable) -> Sample:
    return _latency(table, table.last_lo_s - table.intended_s, table.last_hi_s - table.intended_s)


def _e2e_service(table: TraceTable) -> Sample:
    return _latency(table, table.last_lo_s - table.sent_s, table.last_hi_s - table.sent_s)


def _ttft(table: TraceTable) -> Sample:
    return _latency(table, table.first_lo_s - table.intended_s, table.first_hi_s - table.intended_s)


def _ttft_service(table: TraceTable) -> Sample:
    return _latency(table, table.first_lo_s - table.sent_s, table.first_hi_s - table.sent_s)


def _tpot(table: TraceTable) -> Sample:
    """Leave out answers of one token, which have no time between tokens."""
    some = table.where((table.output_tokens >= 2) | ~table.ok) if table.stream else table.where(_none(table))
    gaps = np.maximum(some.output_tokens - 1, 1)
    return _latency(some, (some.last_lo_s - some.first_hi_s) / gaps, (some.last_hi_s - some.first_lo_s) / gaps)


def _itl(table: TraceTable) -> Sample:
    """Count a failed request as all the gaps that it owed, so that long answers cannot thin failures out."""
    if not table.stream:
        return Sample(np.zeros(0, np.float32), np.zeros(0, np.float32))
    owed = np.maximum(table.asked_output_tokens[~table.ok] - 1, 1)
    return Sample(*table.gaps_s(), int(owed.sum()))


def _none(table: TraceTable) -> Bools:
    return np.zeros(len(table), np.bool_)


def _send_lag(table: TraceTable) -> Sample:
    sent = ~np.isnan(table.sent_s)
    lag_s = (table.sent_s - table.intended_s)[sent]
    return Sample(lag_s, lag_s, int(len(table) - sent.sum()))


def _read_lag(table: TraceTable) -> Sample:
    return Sample(table.read_lag_s, table.read_lag_s)


def _exact(values: Bools | Ints) -> Sample:
    numbers = values.astype(np.float64)
    return Sample(numbers, numbers)


def _prompt_tokens(table: TraceTable) -> Sample:
    return _exact(table.prompt_tokens[table.ok & (table.prompt_tokens >= 0)])


def _output_tokens(table: TraceTable) -> Sample:
    return _exact(table.output_tokens[table.ok & (table.output_tokens >= 0)])


def good(table: TraceTable, demands: Sequence[Demand] = ()) -> Sample:
    """Return 1 for each request that succeeded and met every demand; `lo` counts only those that surely did."""
    lo, hi = table.ok, table.ok
    for demand in demands:
        least, most = _request_values(table, demand.metric)
        meets = np.less if demand.strict else np.less_equal
        with np.errstate(invalid="ignore"):  # NaN: undefined for this request, as tpot is for one token
            lo = lo & (meets(most, demand.limit) | np.isnan(most))
            hi = hi & (meets(least, demand.limit) | np.isnan(least))
    return Sample(lo.astype(np.float64), hi.astype(np.float64))


def _request_values(table: TraceTable, metric: str) -> tuple[Floats, Floats]:
    """Return one value a request, in row order; of itl that is the mean over the request's own gaps."""
    if metric in {"tpot", "itl"}:
        number = table.output_tokens if metric == "tpot" else table.tokens_seen
        gaps = np.where(number >= 2, number - 1, np.nan)
        return (table.last_lo_s - table.first_hi_s) / gaps, (table.last_hi_s - table.first_lo_s) / gaps
    ends = ("first_lo_s", "first_hi_s") if metric.startswith("ttft") else ("last_lo_s", "last_hi_s")
    start_s = table.sent_s if metric.endswith("_service") else table.intended_s
    lo, hi = (np.where(table.tokens_seen > 0, getattr(table, end) - start_s, np.inf) for end in ends)
    return lo, hi


_ROWS = (
    Metric("e2e", "time", Kind.SAMPLE, "intended send to last token", _e2e),
    Metric("ttft", "time", Kind.SAMPLE, "intended send to first token", _ttft),
    Metric("e2e_service", "time", Kind.SAMPLE, "actual send to last token", _e2e_service),
    Metric("ttft_service", "time", Kind.SAMPLE, "actual send to first token", _ttft_service),
    Metric("tpot", "time", Kind.SAMPLE, "time per output token after the first", _tpot, streaming=True),
    Metric("itl", "time", Kind.SAMPLE, "gaps between token arrivals, pooled", _itl, streaming=True),
    Metric("send_lag", "time", Kind.SAMPLE, "intended send to actual send", _send_lag, about="harness"),
    Metric("read_lag", "time", Kind.SAMPLE, "kernel receive to user-space read", _read_lag, about="harness"),
    Metric("error_rate", "ratio", Kind.RATIO, "failed of all attempted", lambda table: _exact(~table.ok)),
    Metric("goodput", "ratio", Kind.RATIO, "met every latency gate, of all attempted", good, "higher"),
    Metric(
        "throughput", "rate", Kind.RATE, "requests completed in the window", lambda table: _exact(table.ok), "higher"
    ),
    Metric(
        "output_throughput",
        "token_rate",
        Kind.RATE,
        "output tokens of requests completed in the window",
        lambda table: _exact(np.where(table.ok, np.maximum(table.output_tokens, 0), 0)),
        "higher",
    ),
    Metric(
        "sent_ratio",
        "ratio",
        Kind.RATIO,
        "sent of all that were due",
        lambda table: _exact(~np.isnan(table.sent_s)),
        "higher",
        about="harness",
    ),
    Metric("prompt_tokens", "tokens", Kind.SAMPLE, "prompt tokens by the server's usage", _prompt_tokens, "either"),
    Metric("output_tokens", "tokens", Kind.SAMPLE, "output tokens by the server's usage", _output_tokens, "either"),
)
METRICS = {row.name: row for row in _ROWS}


@dataclass(frozen=True, slots=True)
class Window:
    """The measured time of one replicate, and how many requests were offered in it."""

    replicate: int
    start_s: float
    end_s: float
    offered: int

    @property
    def length_s(self) -> float:
        return self.end_s - self.start_s


def window(table: TraceTable, replicate: int) -> Window:
    """Return the time in which a replicate's requests were due, one mean gap past the last; draining is outside."""
    due_s = table.intended_s[table.replicate == replicate]
    start_s, last_s = float(due_s.min()), float(due_s.max())
    gap_s = (last_s - start_s) / (len(due_s) - 1) if len(due_s) > 1 else 0.0
    return Window(replicate, start_s, last_s + gap_s, len(due_s))


def rate(table: TraceTable, metric: Metric, span: Window) -> float:
    """Return the metric's sum over requests that ended in the window, whenever they began, per second."""
    if span.length_s <= 0:
        return 0.0
    inside = (table.end_s >= span.start_s) & (table.end_s < span.end_s)
    return float(metric.values(table).lo[inside].sum()) / span.length_s
