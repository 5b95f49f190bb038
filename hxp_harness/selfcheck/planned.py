"""Runs as long as the planner asks for: what a user sees who does as the report says. Pure and seeded.

A first run of the default length; then, as long as it saw too little to plan from, a longer one; then the one planned.
The first that decides ends it, so that what all of them together do wrong is counted.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from hxp_harness.gates.gate import Gate
from hxp_harness.gates.outcome import Outcome
from hxp_harness.gates.prospect import Plan
from hxp_harness.selfcheck.servers import Server
from hxp_harness.selfcheck.table import rate
from hxp_harness.selfcheck.trial import Ended, Trial

HEADROOM_RATIO, LIMIT_RATIO = 0.9, 1.0
CLEAR_PASS, CLEAR_FAIL = 0.75, 1.5

TITLE = (
    "| server | replicates asked for: median, 10 % to 90 % | PASS with them, at 10 % headroom | decided at the limit, "
    "falsely | part of the run for a clear PASS | for a clear FAIL |\n|---|---|---|---|---|---|"
)


def gate_of(server: Server, limit_s: float) -> Gate:
    """Return the gate on the server's percentile."""
    return Gate("e2e", f"p{server.quantile * 100:g}", "<=", limit_s, f"e2e p{server.quantile * 100:g} <= {limit_s} s")


@dataclass(frozen=True, slots=True)
class Lengths:
    """The first run has `start` replicates of `requests`; one of over `most` is not tried out."""

    start: int
    requests: int
    most: int = 4000


@dataclass(frozen=True, slots=True)
class Followed:
    """What came of doing as the planner says: the length of the last run, its verdict, and the run itself."""

    replicates: int
    outcome: Outcome
    last: Trial


@dataclass(slots=True)
class Planned:
    """Counts over such sequences for one server."""

    server: str
    asked: list[int] = field(default_factory=list)
    at_headroom: list[Outcome] = field(default_factory=list)
    at_limit: list[Outcome] = field(default_factory=list)
    clear: dict[Outcome, list[float]] = field(default_factory=lambda: {Outcome.PASS: [], Outcome.FAIL: []})

    def __iadd__(self, other: Planned) -> Self:
        self.asked += other.asked
        self.at_headroom += other.at_headroom
        self.at_limit += other.at_limit
        for outcome in self.clear:
            self.clear[outcome] += other.clear[outcome]
        return self

    def line(self) -> str:
        """Return the row of the table."""
        low, middle, high = np.percentile(self.asked, [10, 50, 90])
        passed = self.at_headroom.count(Outcome.PASS)
        false = len(self.at_limit) - self.at_limit.count(Outcome.INCONCLUSIVE)
        parts = [f"{statistics.fmean(used):.0%}" if used else "-" for used in self.clear.values()]
        cells = [
            self.server,
            f"{middle:.0f}, {low:.0f} to {high:.0f}",
            rate(passed, len(self.at_headroom)),
            rate(false, len(self.at_limit)),
            *parts,
        ]
        return f"| {' | '.join(cells)} |"


def follow(server: Server, limits_s: Sequence[float], random: np.random.Generator, lengths: Lengths) -> list[Followed]:
    """Do as the planner says under each limit alone, from the first run on.

    Limits under which runs of the same length are asked for share the run: it takes longer to draw than to judge.
    """
    found: dict[float, Followed] = {}
    asked = {Plan(lengths.start, sure=False): list(limits_s)}
    while asked:
        now, under = asked.popitem()
        trial = Trial(server.draw(random, 1, now.replicates * lengths.requests)[0], now.replicates, server.in_flight)
        for gate, ended in zip(
            gates := [gate_of(server, limit_s) for limit_s in under], trial.ours(gates), strict=True
        ):
            ahead = None if _ends(now, ended, lengths) else trial.plan(gate)
            if ahead is None or ahead.replicates > lengths.most:
                found[gate.limit] = Followed(now.replicates, ended.outcome, trial)
            else:
                asked.setdefault(ahead, []).append(gate.limit)
    return [found[limit_s] for limit_s in limits_s]


def _ends(now: Plan, ended: Ended, lengths: Lengths) -> bool:
    """Whether nothing longer follows; after the first run something always does, for the sake of the trial."""
    return now.sure or (ended.outcome is not Outcome.INCONCLUSIVE and now.replicates > lengths.start)


def try_planned(server: Server, true_s: float, runs: int, seed: list[int], lengths: Lengths) -> Planned:
    """Return the counts over so many sequences."""
    random, found = np.random.default_rng(seed), Planned(server.name)
    limits_s = [true_s / ratio for ratio in (HEADROOM_RATIO, LIMIT_RATIO)]
    clear = [gate_of(server, true_s / ratio) for ratio in (CLEAR_PASS, CLEAR_FAIL)]
    for _ in range(runs):
        at_headroom, at_limit = follow(server, limits_s, random, lengths)
        found.asked.append(at_headroom.replicates)
        found.at_headroom.append(at_headroom.outcome)
        found.at_limit.append(at_limit.outcome)
        for outcome, ended in zip((Outcome.PASS, Outcome.FAIL), at_headroom.last.ours(clear), strict=True):
            found.clear[outcome].append(ended.used)
    return found
