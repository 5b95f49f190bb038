"""Stored runs as series over time, and where a series changed its level.

Change points are those of PELT (Killick, Fearnhead, Eckley 2012; the library is ruptures) on the logarithm, with a
penalty of PENALTY log(n) variances of the noise. Each must then stand a Welch test against its neighbours, at 1 %
shared out over all places it could have been found at, and be larger than the margin, or it goes, the weakest first:
much as Hunter and Apache Otava do after E-divisive.
"""

from __future__ import annotations

import itertools
import math
import statistics
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hxp_harness.comparison.effect import mean_of
from hxp_harness.comparison.figures import figures_of
from hxp_harness.errors import UsageError
from hxp_harness.gates.interval import ALPHA
from hxp_harness.report.record import RECORD_FILE, Record, read_record

LEAST_RUNS = 6
LEAST_SEGMENT = 3
PENALTY = 4.0  # with 2, one of 30 steady histories of 30 runs showed a change, with 4 one of 150
_NORMAL_MAD = 0.6745  # of a normal distribution: its median absolute deviation, in standard deviations
_LEAST_NOISE = 1e-3


@dataclass(frozen=True, slots=True)
class Moment:
    """One run's value of one figure."""

    run: str
    started: str
    value: float


@dataclass(frozen=True, slots=True)
class Series:
    """One figure of one workload on one kind of target, oldest first."""

    profile: str
    target: str
    figure: str
    unit: str
    better: str
    moments: tuple[Moment, ...]


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """The level changed with moment `at`; levels are geometric means, `p` the chance of such values without change."""

    at: int
    before: float
    after: float
    p: float

    @property
    def change(self) -> float:
        return self.after / self.before - 1


def stored_records(folder: Path) -> list[Record]:
    """Return the records of the runs below `folder`, oldest first; raise UsageError when there is none.

    Runs that are INVALID say nothing and are left out, and so are files that are no record of this version.
    """
    found = []
    for file in sorted(folder.glob(f"*/{RECORD_FILE}")):
        if file.parent.is_symlink():  # reports/latest
            continue
        try:
            record = read_record(file.parent)
        except UsageError:
            continue
        if record.verdict != "INVALID":
            found.append(record)
    if not found:
        raise UsageError(f"no run that can be used is stored in {folder}", hint="hxp perf keeps its runs in reports/")
    return sorted(found, key=lambda record: record.started)


def series_of(records: Iterable[Record]) -> list[Series]:
    """Return a series for each gated figure of each workload and target that these runs had."""
    rows: dict[tuple[str, ...], list[Moment]] = {}
    for record in records:
        for figure in figures_of([record]).values():
            value = mean_of(figure.values, share=False)[1] if figure.decides and figure.values else math.inf
            if not figure.share and math.isfinite(value):
                key = (*_subject(record), figure.name, figure.unit, figure.better)
                rows.setdefault(key, []).append(Moment(record.id, record.started, value))
    return [
        Series(profile, target, figure, unit, better, tuple(moments))
        for (profile, _, target, figure, unit, better), moments in rows.items()
    ]


def changes(values: Sequence[float], *, margin: float) -> list[ChangePoint]:
    """Return where the level of positive `values` changed; nothing of fewer than LEAST_RUNS."""
    if len(values) < LEAST_RUNS:
        return []
    import numpy as np
    import ruptures  # type: ignore[import-untyped]  # it ships no types

    logs = np.log(np.asarray(values, np.float64))
    found = ruptures.Pelt(model="l2", min_size=LEAST_SEGMENT, jump=1).fit(logs.reshape(-1, 1))
    ends = [int(end) for end in found.predict(pen=PENALTY * math.log(len(values)) * _noise(logs.tolist()) ** 2)]
    alpha = ALPHA / len(values)
    while True:
        points = _points(logs.tolist(), ends)
        weak = [one for one in points if one.p >= alpha or abs(math.log(one.after / one.before)) < math.log1p(margin)]
        if not weak:
            return points
        ends.remove(max(weak, key=lambda one: one.p).at)


def _points(logs: Sequence[float], ends: Sequence[int]) -> list[ChangePoint]:
    from scipy import stats

    starts = [0, *ends[:-1]]
    parts = [logs[start:end] for start, end in zip(starts, ends, strict=True)]
    found = []
    for number, (before, after) in enumerate(itertools.pairwise(parts), 1):
        with warnings.catch_warnings():  # values alike to the last digit: as sure as can be
            warnings.simplefilter("ignore", RuntimeWarning)
            p = float(stats.ttest_ind(before, after, equal_var=False).pvalue)
        old, new = (math.exp(statistics.fmean(part)) for part in (before, after))
        found.append(ChangePoint(starts[number], old, new, 0.0 if math.isnan(p) and old != new else p))
    return found


def _noise(logs: Sequence[float]) -> float:
    """Return the standard deviation of one value, from the differences of neighbours: a jump hardly moves it."""
    steps = [abs(other - one) for one, other in itertools.pairwise(logs)]
    return max(statistics.median(steps) / _NORMAL_MAD / math.sqrt(2), _LEAST_NOISE)


def _subject(record: Record) -> tuple[str, str, str]:
    """Return profile, contract and target: runs that differ in one of them are no series."""
    contract = record.profile.get("contract")
    target = record.environment.get("target")
    engine = target.get("engine", "") if isinstance(target, dict) else ""
    model = target.get("model", "") if isinstance(target, dict) else ""
    name = str(record.profile.get("name", "run"))
    return name, str(contract), f"{model} on {engine} ({record.evidence.value})"
