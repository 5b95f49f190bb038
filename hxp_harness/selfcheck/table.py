"""The table of the self-test: runs counted, rates with their error bars, and whether the promises hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from scipy import stats

from hxp_harness.gates.outcome import Outcome
from hxp_harness.selfcheck.trial import Ended

PROMISED = 0.01  # of runs, for a false PASS and for a false FAIL
SIGNIFICANT = 0.001  # a rate is over the promise when chance gives such a count so rarely
RIVALS = ("k6", "LoadGen", "t-test")


@dataclass(slots=True)
class Cell:
    """All runs of one server at one ratio of the true statistic to the limit."""

    server: str
    ratio: float
    replicates: int
    level: bool = True  # False: latency has none, so that no PASS is right
    runs: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    used: dict[Outcome, float] = field(default_factory=dict)  # summed over the runs that ended so
    rivals: Counter[tuple[str, Outcome]] = field(default_factory=Counter)

    def add(self, ended: Ended, rivals: Iterable[tuple[str, Outcome]]) -> None:
        self.runs += 1
        self.outcomes[ended.outcome] += 1
        self.used[ended.outcome] = self.used.get(ended.outcome, 0.0) + ended.used
        self.rivals.update(rivals)

    def merge(self, other: Cell) -> None:
        """Take the runs of another cell of the same server and ratio."""
        self.runs += other.runs
        self.outcomes += other.outcomes
        self.rivals += other.rivals
        for outcome, used in other.used.items():
            self.used[outcome] = self.used.get(outcome, 0.0) + used

    def false(self, outcome: Outcome) -> int | None:
        """Return how many runs ended falsely so; None where that outcome is right."""
        right = self.level and self.ratio < 1.0 if outcome is Outcome.PASS else self.ratio > 1.0
        return None if right else self.outcomes[outcome]

    def mean_used(self) -> float:
        return sum(self.used.values()) / max(self.runs, 1)

    def mean_used_by(self, outcome: Outcome) -> float:
        return self.used.get(outcome, 0.0) / max(self.outcomes[outcome], 1)


def rate(count: int, runs: int) -> str:
    """Return a rate in per cent with its 95 % bounds (Clopper and Pearson)."""
    low, high = stats.binomtest(count, runs).proportion_ci(0.95, "exact")
    return f"{count / runs:.1%} [{low:.1%}, {high:.1%}]"


def broken(cells: Iterable[Cell]) -> list[str]:
    """Return a sentence for each promise on error rates that the runs contradict."""
    found = []
    for cell in cells:
        for outcome in (Outcome.PASS, Outcome.FAIL):
            count = cell.false(outcome)
            if count and stats.binomtest(count, cell.runs, PROMISED, "greater").pvalue < SIGNIFICANT:
                found.append(f"{cell.server} at {cell.ratio:g}: false {outcome} in {rate(count, cell.runs)}")
    return found


def lines(cells: Iterable[Cell]) -> list[str]:
    """Return the table as Markdown: what our verdict did, and what other rules did wrong on the same runs."""
    found = [
        "| server | true / limit | PASS | FAIL | INCONCLUSIVE | INVALID | length | wrong: k6 | LoadGen | t-test |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for cell in cells:
        shares = [f"{cell.outcomes[outcome] / cell.runs:.1%}" for outcome in Outcome]
        wrong = [rate(_wrong(cell, rival), cell.runs) for rival in RIVALS]
        found.append(f"| {' | '.join([cell.server, f'{cell.ratio:g}', *shares, f'{cell.mean_used():.0%}', *wrong])} |")
    return found


def _wrong(cell: Cell, rival: str) -> int:
    """Count false PASS at the limit and beyond it, false FAIL below."""
    return cell.rivals[rival, Outcome.PASS if cell.ratio >= 1.0 else Outcome.FAIL]
