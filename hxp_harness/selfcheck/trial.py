"""One virtual run, judged at several limits by our verdict and by other people's rules.

It calls the functions that judge a real run: parts and bets, looks, readings, the check for one level. Only the traces
are missing: their latencies stand in an array.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hxp_harness.gates.early import ALPHA_EARLY, Bet, parts_of
from hxp_harness.gates.effective import Effective, cuts_of
from hxp_harness.gates.evaluate import Observed, Reading, met, read_percentile, worth_of
from hxp_harness.gates.gate import Gate
from hxp_harness.gates.interval import ALPHA, plain_interval
from hxp_harness.gates.looks import Look, looks
from hxp_harness.gates.outcome import Outcome
from hxp_harness.gates.prospect import Plan, plan
from hxp_harness.gates.stationary import change, rises, settled_after
from hxp_harness.gates.tails import share_above, share_below
from hxp_harness.metrics.definitions import Sample

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended, and which part of the planned run it took (0 to 1)."""

    outcome: Outcome
    used: float = 1.0


class Trial:
    """A run of `replicates` with the latencies `latency_s`, in order of the schedule."""

    def __init__(self, latency_s: Floats, replicates: int, in_flight: float = 30.0) -> None:
        """Take also how many requests are `in_flight` together."""
        self._latency_s, self._replicates, self._in_flight = latency_s, replicates, in_flight
        self._levels: dict[tuple[float, int], list[float]] = {}

    def ours(self, gates: Sequence[Gate]) -> list[Ended]:
        """Return the verdict under each gate alone; all are on the same percentile."""
        ended: list[Ended | None] = [self._early(gate) for gate in gates]
        for look in looks(self._replicates):
            ended = self._merged(ended, self._look(gates, look))
        return [one or Ended(Outcome.INCONCLUSIVE) for one in ended]

    @staticmethod
    def _merged(before: Sequence[Ended | None], now: Sequence[Ended | None]) -> list[Ended | None]:
        """Return whatever came first."""
        both = zip(before, now, strict=True)
        return [min((one for one in pair if one), key=lambda one: one.used, default=None) for pair in both]

    def _early(self, gate: Gate) -> Ended | None:
        requests = len(self._latency_s) // self._replicates
        parts = self._replicates * parts_of(self._replicates, requests)
        bet = Bet(1.0 - (gate.quantile or 0.0), parts)
        for number, (bad, size) in enumerate(counts_over(self._latency_s, gate.limit, parts), 1):
            if bet.take(bad, size):
                return Ended(Outcome.FAIL, number / parts)
        return None

    def _look(self, gates: Sequence[Gate], look: Look) -> list[Ended | None]:
        used = look.done / self._replicates
        seen = self._latency_s[: round(len(self._latency_s) * used)]
        cut = settled_after(seen)
        if cut == len(seen) or change(seen[cut:]) is not None:
            return [Ended(Outcome.INVALID) if look.done == self._replicates else None] * len(gates)
        readings = self._readings(gates, seen[cut:], look)
        may_pass = look.passes > 0 and not (used < 1.0 and rises(seen[cut:], used))
        return [_decided(reading, used, look, may_pass=may_pass) for reading in readings]

    def _readings(self, gates: Sequence[Gate], seen: Floats, look: Look) -> list[Reading]:
        done = look.done
        cuts = cuts_of(done, len(self._latency_s) // self._replicates, self._in_flight)
        parts = [Sample(part, part) for part in np.array_split(seen, done * cuts)]
        pooled, values = Sample(seen, seen), [Observed(0.0, 0.0, len(seen) // done)] * done
        worth: Effective = worth_of(parts, pooled, gates[0].quantile or 0.0)
        return [
            read_percentile(
                gate,
                pooled,
                worth,
                values,
                alpha=look.alpha,
                room=look.room,
                in_flight=self._in_flight,
                whole=done >= self._replicates,
            )
            for gate in gates
        ]

    def plan(self, gate: Gate) -> Plan | None:
        """Return what the planner asks for after this run."""
        cut = settled_after(self._latency_s)
        (reading,) = self._readings([gate], self._latency_s[cut:], Look(self._replicates, 1.0, 1.0))
        return plan(reading)

    def rivals(self, gate: Gate) -> list[tuple[str, Outcome]]:
        """Return what other rules say of the same run."""
        return [("k6", self.k6(gate)), ("LoadGen", self.loadgen(gate)), ("t-test", self.t_test(gate))]

    def k6(self, gate: Gate) -> Outcome:
        """Return the verdict of a threshold as k6 has it: the percentile of all requests against the limit."""
        (level,) = self._quantiles(gate, 1)
        return Outcome.PASS if level <= gate.limit else Outcome.FAIL

    def loadgen(self, gate: Gate) -> Outcome:
        """Return MLPerf LoadGen's: early stopping, a binomial bound at 99 % that takes requests for independent."""
        n, over = len(self._latency_s), int((self._latency_s > gate.limit).sum())
        allowed = 1.0 - (gate.quantile or 0.0)
        if share_above(over, n, ALPHA) <= allowed:
            return Outcome.PASS
        return Outcome.FAIL if share_below(over, n, ALPHA) > allowed else Outcome.INCONCLUSIVE

    def t_test(self, gate: Gate) -> Outcome:
        """Return a plain t-test's on the percentile of each replicate, one-sided at 1 % either way."""
        levels = self._quantiles(gate, self._replicates)
        bounds = plain_interval(levels, levels, gate.limit, ALPHA)
        if bounds.high <= gate.limit:
            return Outcome.PASS
        return Outcome.FAIL if bounds.low > gate.limit else Outcome.INCONCLUSIVE

    def _quantiles(self, gate: Gate, pieces: int) -> list[float]:
        """Return the gate's quantile of each of so many equal pieces, interpolated; its limit does not matter."""
        q = gate.quantile or 0.0
        if (q, pieces) not in self._levels:
            self._levels[q, pieces] = np.quantile(self._latency_s.reshape(pieces, -1), q, axis=1).tolist()
        return self._levels[q, pieces]


def counts_over(latency_s: Floats, limit_s: float, parts: int) -> list[tuple[int, int]]:
    """Return how many values of how many lie over the limit in each of so many parts, even and in order of time."""
    size, larger = divmod(len(latency_s), parts)
    sizes = np.full(parts, size) + (np.arange(parts) < larger)
    starts = np.cumsum(sizes) - sizes
    over = np.add.reduceat(latency_s > limit_s, starts, dtype=np.int64)
    return list(zip(over.tolist(), sizes.tolist(), strict=True))


def _decided(reading: Reading, used: float, look: Look, *, may_pass: bool) -> Ended | None:
    if may_pass and met(reading):
        return Ended(Outcome.PASS, used)
    if reading.interval.p_over <= (ALPHA - ALPHA_EARLY) * look.fails:
        return Ended(Outcome.FAIL, used)
    return Ended(Outcome.INCONCLUSIVE) if math.isclose(used, 1.0) else None
