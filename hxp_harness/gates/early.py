"""Whether a run has failed already: an obvious failure need not be measured to its end.

A bet against the claim that the gate is met. The run is cut into parts; if the gate is met, the share of bad requests
(over the limit, or failed) is on average at most `allowed` in a part. Stake the fraction STAKE of the largest bet that
this claim calls fair: after a part with the share x of bad requests, wealth is multiplied by
1 + STAKE / allowed * (x - allowed). If the claim holds, wealth ever reaching 1 / alpha has a chance of at most alpha,
however often one looks (Ville 1939; Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by
betting").

That supposes that a part knows nothing of the one before. On a busy server it does: one long queue makes several parts
bad together. So no part may multiply wealth by more than its own length allows, MOST_GROWTH for a 64th of the run; a
queue must then fill a sixth of the run before it counts as a failure. Throwing away winnings keeps the bet valid. And a
bet that is won counts only when a bound says the same that knows how bad requests cluster (`gates.effective`), off the
parts seen so far.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from hxp_harness.gates.effective import PARTS, effective
from hxp_harness.gates.gate import Gate, demands_of
from hxp_harness.gates.scope import within
from hxp_harness.gates.tails import share_below
from hxp_harness.metrics.definitions import good
from hxp_harness.metrics.table import TraceTable
from hxp_harness.trace import ErrorKind

ALPHA_EARLY = 0.001  # of the 1 % for a false FAIL; the looks have the rest
STAKE = 0.5
MOST_GROWTH = 1.8  # of wealth by a 64th of the run
LEAST_PART = 200  # requests


class Bet:
    """Against the claim that at most the share `allowed` is bad; errs with chance `alpha`, however often looked at."""

    def __init__(self, allowed: float, parts: int, alpha: float = ALPHA_EARLY) -> None:
        """Open it for a run of so many parts."""
        self._allowed, self._alpha, self._most = allowed, alpha, MOST_GROWTH ** (PARTS / parts)
        self._wealth = 1.0
        self._seen: list[tuple[int, int]] = []
        self.won = False

    def take(self, bad: int, total: int) -> bool:
        """Take one more part, with `bad` of `total` values; return whether the bet is won."""
        self._seen.append((bad, total))
        self._wealth *= growth(bad / total if total else 0.0, self._allowed, self._most)
        self.won = self.won or (self._wealth >= 1 / self._alpha and self._borne_out())
        return self.won

    def _borne_out(self) -> bool:
        bad, totals = np.array([pair for pair in self._seen if pair[1]], np.float64).T
        size = effective(bad[np.newaxis], totals).size(self._alpha)
        return share_below(float(bad.sum() / totals.sum()) * size, size, self._alpha) > self._allowed


class EarlyJudge:
    """Looks at each part of a run once; holds a few numbers a gate, no traces."""

    def __init__(self, gates: Sequence[Gate], parts: int) -> None:
        """Prepare for a run that is cut into so many parts."""
        self._gates = tuple(gates)
        allowed = {gate: share for gate in gates if gate.decides and (share := allowed_share(gate, gates)) is not None}
        alpha = ALPHA_EARLY / max(len(allowed), 1)  # Bonferroni: any gate may be the one that fails
        self._bets = {gate: Bet(share, parts, alpha) for gate, share in allowed.items()}
        self.parts = 0

    def look(self, part: TraceTable) -> tuple[Gate, ...]:
        """Take the traces of one more part; return the gates that have failed for certain."""
        self.parts += 1
        for gate, bet in self._bets.items():
            if not bet.won:
                bet.take(*bad_count(gate, self._gates, part))
        return self.failed

    @property
    def failed(self) -> tuple[Gate, ...]:
        return tuple(gate for gate, bet in self._bets.items() if bet.won)


def growth(bad: float, allowed: float, most: float) -> float:
    """Return what a part with the share `bad` multiplies wealth by."""
    return min(1.0 + STAKE / allowed * (bad - allowed), most)


def parts_of(replicates: int, requests: int) -> int:
    """Return into how many parts each replicate of so many requests is cut."""
    return max(min(PARTS // replicates, requests // LEAST_PART), 1)


def complete_parts(replicate: TraceTable, start: int, requests: int, parts: int) -> Iterator[TraceTable]:
    """Yield the parts of a replicate whose first index is `start`, in order, up to the first that is not complete."""
    place = (replicate.index - start) * parts // requests
    for number in range(parts):
        part = replicate.where(place == number)
        size = -(-(number + 1) * requests // parts) - -(-number * requests // parts)
        if len(part) < size or bool(np.any(part.error == ErrorKind.UNFINISHED.value)):
            return
        yield part


def allowed_share(gate: Gate, gates: Sequence[Gate]) -> float | None:
    """Return the share of bad requests that the gate allows; None for a gate that does not count requests."""
    if gate.metric == "error_rate":
        return gate.limit
    if gate.metric == "goodput":
        return 1.0 - gate.limit if demands_of(gate, gates) else None
    if gate.row.dimension != "time" or gate.quantile is None:
        return None
    return 1.0 - gate.quantile


def bad_count(gate: Gate, gates: Sequence[Gate], part: TraceTable) -> tuple[int, int]:
    """Return how many values of a part surely break the gate's limit, as infinite ones do, and of how many."""
    part = within(part, gate.scope)
    if gate.metric == "goodput":
        return len(part) - int(good(part, demands_of(gate, gates)).hi.sum()), len(part)
    sample = gate.row.values(part)
    if gate.metric == "error_rate":
        return int(sample.lo.sum()), sample.n
    return int((sample.lo > gate.limit).sum()) + sample.infinite, sample.n
