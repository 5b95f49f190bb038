"""What is computed from the readings of a run's measured time: one row each. Pure.

Means are over time (trapezoids between readings), so that a late reading weighs what it stands for. The span is that
between the first and the last reading which told the value. NaN where too little was told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hxp_harness.telemetry.series import ServerSeries

Value = Callable[[ServerSeries], float]


@dataclass(frozen=True, slots=True)
class ServerMetric:
    """One number of a run, in `unit`."""

    name: str
    unit: str
    says: str
    value: Value
    better: str = "lower"  # lower | higher | either


@dataclass(frozen=True, slots=True)
class Found:
    """A value, and how many readings it stands on."""

    value: float
    unit: str
    n: int


def _mean(column: str) -> Value:
    def value(series: ServerSeries) -> float:
        at_s, values = told(series, column)
        if len(values) < 2:
            return float(values[0]) if len(values) else float("nan")
        return float(np.trapezoid(values, at_s) / (at_s[-1] - at_s[0]))

    return value


def _peak(column: str) -> Value:
    def value(series: ServerSeries) -> float:
        _, values = told(series, column)
        return float(values.max()) if len(values) else float("nan")

    return value


def told(series: ServerSeries, *columns: str) -> tuple[np.ndarray, ...]:
    """Return times and values of the readings that told all of `columns`."""
    good = np.all([~np.isnan(series[column]) for column in columns], axis=0)
    return (series.at_s[good], *(series[column][good] for column in columns))


def _grown(values: np.ndarray) -> float:
    """Return how far a counter went; NaN where it went back, for then the server was started anew."""
    return float(values[-1] - values[0]) if len(values) >= 2 and bool(np.all(np.diff(values) >= 0)) else float("nan")


def _growth(column: str) -> Value:
    def value(series: ServerSeries) -> float:
        return _grown(told(series, column)[1])

    return value


def _per_s(column: str) -> Value:
    def value(series: ServerSeries) -> float:
        at_s, values = told(series, column)
        return _grown(values) / float(at_s[-1] - at_s[0]) if len(values) >= 2 else float("nan")

    return value


def _hit_ratio(series: ServerSeries) -> float:
    _, hits, queries = told(series, "prefix_hits", "prefix_queries")
    looked_up = _grown(queries)
    return _grown(hits) / looked_up if looked_up > 0 else float("nan")


def _energy_j(series: ServerSeries, *columns: str) -> tuple[float, ServerSeries]:
    """Return the energy between two readings, by the driver's counter or else as the integral of power."""
    if len(told(series, "gpu_energy_j", *columns)[0]) >= 2:
        at_s, energy_j = told(series, "gpu_energy_j", *columns)[:2]
        return _grown(energy_j), series.between(at_s[0], at_s[-1])
    at_s, power_w = told(series, "gpu_power_w", *columns)[:2]
    if len(at_s) < 2:
        return float("nan"), series
    return float(np.trapezoid(power_w, at_s)), series.between(at_s[0], at_s[-1])


def _energy_per_token(series: ServerSeries) -> float:
    """Count energy and tokens between the same two readings."""
    energy_j, span = _energy_j(series, "generation_tokens")
    tokens = _growth("generation_tokens")(span)
    return energy_j / tokens if tokens > 0 else float("nan")


SERVER_METRICS = (
    ServerMetric("running_mean", "requests", "requests in the batch, over time", _mean("running"), "either"),
    ServerMetric("running_peak", "requests", "the most seen in the batch", _peak("running"), "either"),
    ServerMetric("waiting_mean", "requests", "requests in the server's queue, over time", _mean("waiting")),
    ServerMetric("waiting_peak", "requests", "the most seen in the queue", _peak("waiting")),
    ServerMetric("kv_usage_mean", "ratio", "share of the KV cache in use", _mean("kv_cache_usage"), "either"),
    ServerMetric("kv_usage_peak", "ratio", "the largest share seen", _peak("kv_cache_usage"), "either"),
    ServerMetric("prefix_hit_ratio", "ratio", "prompt tokens found in the prefix cache", _hit_ratio, "either"),
    ServerMetric("preemptions", "requests", "requests put back for want of KV memory", _growth("preemptions")),
    ServerMetric("generated_rate", "tokens/s", "output tokens by its own count", _per_s("generation_tokens"), "higher"),
    ServerMetric("prompt_rate", "tokens/s", "prompt tokens by its own count", _per_s("prompt_tokens"), "higher"),
    ServerMetric("gpu_power_mean", "W", "drawn by all GPUs, over time", _mean("gpu_power_w")),
    ServerMetric("gpu_power_peak", "W", "the most seen", _peak("gpu_power_w")),
    ServerMetric("gpu_energy", "J", "used by all GPUs", lambda series: _energy_j(series)[0]),
    ServerMetric("energy_per_token", "J/token", "energy of all GPUs / output tokens, same span", _energy_per_token),
    ServerMetric("gpu_memory_peak", "bytes", "in use on all GPUs, the most seen", _peak("gpu_memory_bytes")),
    ServerMetric("gpu_utilisation_mean", "ratio", "share of time with a kernel", _mean("gpu_utilisation"), "either"),
    ServerMetric("gpu_clock_mean", "Hz", "clock of the slowest GPU's cores", _mean("gpu_sm_clock_hz"), "higher"),
)  # fmt: skip


def server_metrics(series: ServerSeries) -> dict[str, Found]:
    """Return every row that these readings allow."""
    found = {}
    for row in SERVER_METRICS:
        value = row.value(series)
        if not np.isnan(value):
            found[row.name] = Found(value, row.unit, len(series))
    return found


@dataclass(frozen=True, slots=True)
class Coverage:
    """How well the server was watched: readings that came, came not, and how late they were at worst."""

    readings: int
    failed: int
    errors: dict[str, int]  # by kind
    missed: int  # ticks without a reading, since the page before took too long
    late_max_s: float
    took_max_s: float


def coverage(series: ServerSeries, every_s: float) -> Coverage:
    """Return how well `series` covers its own span at one reading every `every_s` seconds."""
    errors = [error for error in series.errors if error]
    if not len(series):
        return Coverage(0, 0, {}, 0, 0.0, 0.0)
    due_s = series["asked_s"] - series["late_s"]
    ticks = round(float(due_s[-1] - due_s[0]) / every_s) + 1
    return Coverage(
        readings=len(series),
        failed=len(errors),
        errors={kind: errors.count(kind) for kind in sorted(set(errors))},
        missed=ticks - len(series),
        late_max_s=float(series["late_s"].max()),
        took_max_s=float(series["took_s"].max()),
    )
