"""The record of a search, capacity.json, and the sentences that say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from hxp_harness.capacity.point import Point, cliff, knee
from hxp_harness.capacity.search import MOST_TRIES, bracket, decide
from hxp_harness.errors import UsageError
from hxp_harness.gates.outcome import Outcome
from hxp_harness.report.files import write_whole
from hxp_harness.target import Evidence
from hxp_harness.units import format_quantity

CAPACITY_FILE = "capacity.json"


@dataclass(frozen=True, slots=True)
class CapacityRecord:
    """All that a search found. Rates in requests/s; None: not found, or not asked."""

    schema: int
    id: str
    started: str  # ISO 8601, UTC
    title: str
    profile: str
    evidence: Evidence
    target: Mapping[str, str]
    gates: tuple[str, ...]
    start_rps: float
    resolution: float
    expected_rps: float | None = None
    predicted_rps: float | None = None  # what the stack said of itself beforehand
    stopped: str = ""  # why the search ended before its end, if it did
    points: tuple[Point, ...] = ()
    verdict: Outcome = Outcome.INCONCLUSIVE
    passes_at_rps: float | None = None
    fails_at_rps: float | None = None
    wall_rps: float | None = None
    knee_rps: float | None = None
    cliff_rps: float | None = None

    def with_points(self, points: tuple[Point, ...], stopped: str = "") -> CapacityRecord:
        """Return the record with what these runs show."""
        tried = [one.tried for one in points]
        found, at_knee, at_cliff = bracket(tried), knee(points), cliff(points)
        return replace(
            self,
            points=points,
            stopped=stopped,
            verdict=decide(tried, self.expected_rps),
            passes_at_rps=found.passes_at_rps,
            fails_at_rps=found.fails_at_rps,
            wall_rps=found.wall_rps,
            knee_rps=None if at_knee is None else at_knee.rate_rps,
            cliff_rps=None if at_cliff is None else at_cliff.rate_rps,
        )


def write_capacity(folder: Path, record: CapacityRecord) -> Path:
    """Write capacity.json, whole or not at all; raise InvalidRun when the disk does not take it."""
    text = msgspec.json.format(msgspec.json.encode(record)).decode() + "\n"
    return write_whole(folder / CAPACITY_FILE, text)


def read_capacity(folder: Path) -> CapacityRecord:
    """Return the record in `folder`; raise UsageError when there is none, or it is damaged."""
    file = folder / CAPACITY_FILE
    try:
        return msgspec.json.decode(file.read_bytes(), type=CapacityRecord)
    except OSError as error:
        hint = "hxp capacity --model NAME makes one below reports/"
        raise UsageError(f"cannot read {file}: {error.strerror}", hint=hint) from None
    except msgspec.DecodeError as error:
        raise UsageError(f"{file} is damaged: {error}", hint="search again") from None


def headline(record: CapacityRecord) -> str:
    """Return the answer in one sentence."""
    ends = _ends(record)
    if record.expected_rps is None:
        return ends
    asked = rps(record.expected_rps)
    both = f" {ends}" if record.passes_at_rps and record.fails_at_rps else ""
    if record.verdict is Outcome.PASS:
        return f"{asked} is reached: it passes at {rps(record.passes_at_rps)}.{both}"
    if record.verdict is Outcome.FAIL:
        return f"{asked} is not reached: it fails at {rps(record.fails_at_rps)}.{both}"
    return f"Whether {asked} is reached is not certain. {ends}"


def story(record: CapacityRecord) -> list[str]:
    """Tell how the answer came about, for people who never took statistics."""
    long = sum(one.certifying for one in record.points)
    made = f"{len(record.points)} runs were made, each at a rate of its own" if record.points else "No run was made"
    how = (
        f"{made}: {len(record.points) - long} short to find the way, {long} long enough for a verdict. All are judged "
        f"by the same gates ({'; '.join(record.gates)}) and by the rules of any run: an end of the bracket is certain "
        "only where a run passed or failed surely, which is wrong in at most 1 of 100 such runs."
    )
    supposed = (
        "Supposed is that a higher rate is never easier: every rate below the one that passes passes too, and every "
        "rate above the one that fails fails."
    )
    lines = [how, supposed]
    if record.predicted_rps is not None:
        lines.append(f"The stack had predicted {rps(record.predicted_rps)} of itself, so the search began around it.")
    if record.knee_rps is not None:
        lines.append(
            f"The knee is at {rps(record.knee_rps)}: of the rates tried, there the service completes most per second "
            "of waiting. Above it, more load buys little work and much wait."
        )
    if record.cliff_rps is not None:
        lines.append(
            f"The cliff is at {rps(record.cliff_rps)}: from there on the service completes clearly less than it is "
            "offered, and whoever asks later waits longer."
        )
    if record.wall_rps is not None:
        why = next(one.headline for one in record.points if one.rate_rps == record.wall_rps)
        lines.append(f"From {rps(record.wall_rps)} on nothing can be measured here: {why}")
    low, high = record.passes_at_rps, record.fails_at_rps
    if not record.stopped and record.expected_rps is None and low and high and high > low * (1 + record.resolution):
        lines.append(
            "Between the ends no run of this length decides: close to the capacity slow requests come together, and it "
            "takes long to tell luck from ability. Longer runs (--full) bring the ends closer."
        )
    if record.stopped:
        lines.append(f"The search ended early: {record.stopped}. What it had found by then is kept.")
    elif len(record.points) >= MOST_TRIES:
        lines.append(f"The search ended after {MOST_TRIES} runs without closing in further.")
    return lines


def rps(rate: float | None) -> str:
    return "no rate" if rate is None else format_quantity(rate, "rate")


def _ends(record: CapacityRecord) -> str:
    low, high = record.passes_at_rps, record.fails_at_rps
    if low is not None and high is not None:
        return f"It passes at {rps(low)} and fails at {rps(high)}: the capacity lies between."
    if low is not None:
        return f"It passes at {rps(low)}; no rate was shown to fail."
    if high is not None:
        return f"It fails at {rps(high)}; no rate was shown to pass."
    if record.verdict is Outcome.INVALID:
        return f"No run could be measured: {record.points[-1].headline}"
    return "No rate was shown to pass or to fail."
