"""The history of stored runs as people read it."""

from __future__ import annotations

from pathlib import Path

from hxp_harness.comparison.history import LEAST_RUNS, ChangePoint, Series, changes, series_of, stored_records
from hxp_harness.units import BASE_UNIT, format_quantity

_DIMENSIONS = {unit: dimension for dimension, unit in BASE_UNIT.items()}


def history(folder: Path, *, profile: str | None, margin: float) -> str:
    """Return a paragraph for each series of the runs below `folder`; raise UsageError when there is none."""
    records = [one for one in stored_records(folder) if profile in {None, one.profile.get("name")}]
    found = [paragraph(series, margin=margin) for series in series_of(records)]
    return "\n\n".join(found) if found else f"no run of {profile} is stored in {folder}"


def paragraph(series: Series, *, margin: float) -> str:
    """Say how many runs there are, where the level changed, and what it is now."""
    values = [one.value for one in series.moments]
    last = series.moments[-1]
    head = f"{series.profile}, {series.target}: {series.figure}, {len(values)} runs"
    lines = [f"{head}, the last {_value(last.value, series)} ({last.run})"]
    if len(values) < LEAST_RUNS:
        return "\n".join([*lines, f"  too few to see a change: it takes {LEAST_RUNS}"])
    points = changes(values, margin=margin)
    lines += [f"  {_sentence(point, series)}" for point in points]
    return "\n".join(lines if points else [*lines, f"  no change beyond {margin:.0%} that chance would not explain"])


def _sentence(point: ChangePoint, series: Series) -> str:
    moment = series.moments[point.at]
    worse = (point.change > 0) == (series.better == "lower")
    a, b = _value(point.before, series), _value(point.after, series)
    word = "worse" if worse else "better"
    return f"{word} since {moment.run} ({moment.started}): from {a} to {b}, {point.change:+.1%}"


def _value(value: float, series: Series) -> str:
    dimension = _DIMENSIONS.get(series.unit)
    return format_quantity(value, dimension) if dimension else f"{value:.4g} {series.unit}"
