"""Whether a run has failed already: an obvious failure need not be measured to its end.

A bet against the claim that the gate is met. If it is met, the share of bad requests (over the limit, or failed) is on
average at most `allowed` in a replicate, whatever clusters it comes in. Stake the fraction STAKE of the largest bet
that this claim calls fair: after a replicate with the share x of bad requests, wealth is multiplied by
1 + STAKE / allowed * (x - allowed). If the claim holds, wealth ever reaching 1 / alpha has a chance of at most alpha,
however often one looks (Ville 1939). So looking after each replicate costs nothing. Only failing is decided early: to
PASS, the whole run is needed.
"""

from __future__ import annotations

from collections.abc import Sequence

from hxp_harness.gates.gate import Gate, demands
from hxp_harness.metrics.definitions import good
from hxp_harness.metrics.table import TraceTable

ALPHA_EARLY = 0.001  # of the 1 % for a false FAIL; the test at the end of the run has the rest
STAKE = 0.9


class EarlyJudge:
    """Looks at each complete replicate once; holds a few numbers a gate, no traces."""

    def __init__(self, gates: Sequence[Gate]) -> None:
        self._gates = tuple(gates)
        self._wealth = {gate: 1.0 for gate in gates if allowed_share(gate, gates) is not None}
        self._enough = len(gates) / ALPHA_EARLY  # Bonferroni: any gate may be the one that fails
        self.replicates = 0

    def look(self, replicate: TraceTable) -> tuple[Gate, ...]:
        """Take the traces of one more complete replicate; return the gates that have failed for certain."""
        self.replicates += 1
        for gate in self._wealth:
            allowed = allowed_share(gate, self._gates) or 0.0
            bad = bad_share(gate, self._gates, replicate)
            self._wealth[gate] *= 1.0 + STAKE / allowed * (bad - allowed)
        return self.failed

    @property
    def failed(self) -> tuple[Gate, ...]:
        return tuple(gate for gate, wealth in self._wealth.items() if wealth >= self._enough)


def allowed_share(gate: Gate, gates: Sequence[Gate]) -> float | None:
    """Return the share of bad requests that the gate allows; None for a gate that does not count requests."""
    if gate.metric == "error_rate":
        return gate.limit
    if gate.metric == "goodput":
        return 1.0 - gate.limit if demands(gates) else None
    if gate.row.dimension != "time" or gate.quantile is None:
        return None
    return 1.0 - gate.quantile


def bad_share(gate: Gate, gates: Sequence[Gate], replicate: TraceTable) -> float:
    """Return the share of values that surely break the gate's limit; infinite ones do."""
    if gate.metric == "goodput":
        return 1.0 - float(good(replicate, demands(gates)).hi.mean())
    sample = gate.row.values(replicate)
    if gate.metric == "error_rate":
        return float(sample.lo.mean())
    over = int((sample.lo > gate.limit).sum()) + sample.infinite
    return over / sample.n if sample.n else 0.0
