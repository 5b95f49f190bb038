"""What one run of a search showed at its rate, taken from the run's record; and what the points show together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hxp_harness.capacity.search import Tried
from hxp_harness.gates.outcome import Effect, Outcome
from hxp_harness.report.record import GateResult, Record
from hxp_harness.report.words import headline

KEEPS_UP = 0.95  # of the offered rate: a target that completes less has gone over the cliff


@dataclass(frozen=True, slots=True)
class Point:
    """One run. Rates in requests/s and tokens/s, times in s; None where the run did not show it."""

    rate_rps: float
    folder: str
    certifying: bool
    outcome: Outcome
    leans: bool
    headline: str
    completed_rps: float | None
    tokens_per_s: float | None  # output, over all users
    tokens_per_s_user: float | None  # output, as one user sees it come
    mean_e2e_s: float | None
    gated_s: float | None  # estimate of the first latency gate
    uncertified: bool = False  # no load was sent: this machine cannot measure it

    @property
    def tried(self) -> Tried:
        return Tried(self.rate_rps, self.outcome, self.leans, self.certifying, self.uncertified)

    @property
    def fell(self) -> bool:
        """Whether the target completed clearly less than was offered."""
        return self.completed_rps is not None and self.completed_rps < KEEPS_UP * self.rate_rps


def point_of(record: Record, rate_rps: float, folder: str, *, certifying: bool, output_tokens: int) -> Point:
    """Take from a run's record what a search and its pictures need."""
    e2e_s, tpot_s = (_mean(record, name) for name in ("e2e", "tpot"))
    if tpot_s is None and e2e_s:  # without streaming a user waits for the whole
        tpot_s = e2e_s / output_tokens
    return Point(
        rate_rps=rate_rps,
        folder=folder,
        certifying=certifying,
        outcome=Outcome(record.verdict),
        leans=record.verdict not in {"FAIL", "INVALID"}
        and all(_clears(gate) for gate in record.gates if gate.effect is not Effect.WARN),
        headline=headline(record),
        completed_rps=_mean(record, "throughput"),
        tokens_per_s=_mean(record, "output_throughput"),
        tokens_per_s_user=1.0 / tpot_s if tpot_s else None,
        mean_e2e_s=e2e_s,
        gated_s=next(
            (gate.estimate for gate in record.gates if gate.unit == "s" and gate.effect is not Effect.WARN), None
        ),
    )


def knee(points: Sequence[Point]) -> Point | None:
    """Return the measured point with the most completed requests a second per second of latency.

    That ratio, the power of a queueing system, is largest where more load begins to cost more wait than it brings work
    (Kleinrock 1979, "Power and deterministic rules of thumb"). None with fewer than three measured rates.
    """
    known = [one for one in points if one.outcome is not Outcome.INVALID and one.completed_rps and one.mean_e2e_s]
    if len({one.rate_rps for one in known}) < 3:
        return None
    return max(known, key=lambda one: (one.completed_rps or 0.0) / (one.mean_e2e_s or 1.0))


def cliff(points: Sequence[Point]) -> Point | None:
    """Return the point of the lowest rate at which the target no longer kept up; None where it always did."""
    fallen = [one for one in points if one.outcome is not Outcome.INVALID and one.fell]
    return min(fallen, key=lambda one: one.rate_rps, default=None)


def frontier(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other beats in both tokens/s and tokens/s a user (Pareto), by tokens/s."""
    known = [one for one in points if one.outcome is not Outcome.INVALID and _pair(one) is not None]
    return sorted(
        (one for one in known if not any(_beats(other, one) for other in known)), key=lambda one: _pair(one) or (0, 0)
    )


def _beats(one: Point, other: Point) -> bool:
    mine, theirs = _pair(one) or (0.0, 0.0), _pair(other) or (0.0, 0.0)
    return mine != theirs and mine[0] >= theirs[0] and mine[1] >= theirs[1]


def _pair(point: Point) -> tuple[float, float] | None:
    if point.tokens_per_s is None or point.tokens_per_s_user is None:
        return None
    return point.tokens_per_s, point.tokens_per_s_user


def _clears(gate: GateResult) -> bool:
    if gate.estimate is None:
        return False
    limit = gate.limit if gate.guard is None else gate.guard
    return gate.estimate <= limit if gate.operator.startswith("<") else gate.estimate >= limit


def _mean(record: Record, name: str) -> float | None:
    figures = record.metrics.get(name)
    return None if figures is None else figures.mean
