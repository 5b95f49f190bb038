"""Whether an `abort` gate looks broken: a safety catch that spares a service, not a verdict.

Each part of a run is held against the gate by itself. It trips when so many bad requests would come by chance in at
most one of 10,000 parts of a service that just meets the gate, requests taken for independent. They are not, so it may
trip on a service that would have passed; what that costs is the rest of the run, never a false verdict.
"""

from __future__ import annotations

from collections.abc import Sequence

from hxp_harness.gates.early import allowed_share, bad_count
from hxp_harness.gates.gate import Gate
from hxp_harness.gates.outcome import Effect
from hxp_harness.gates.tails import binomial_at_least
from hxp_harness.metrics.table import TraceTable

CHANCE = 1e-4


def tripped(gates: Sequence[Gate], part: TraceTable) -> tuple[Gate, ...]:
    """Return the abort gates that this part of a run makes look broken."""
    return tuple(gate for gate in gates if gate.effect is Effect.ABORT and _broken(gate, gates, part))


def _broken(gate: Gate, gates: Sequence[Gate], part: TraceTable) -> bool:
    allowed = allowed_share(gate, gates)
    bad, total = bad_count(gate, gates, part)
    if allowed is None or bad <= allowed * total:
        return False
    return binomial_at_least(bad, total, allowed) <= CHANCE
