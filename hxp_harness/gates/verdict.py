"""The decision: from traces, gates and facts to one of four outcomes, with its reasons."""

from __future__ import annotations

from hxp_harness.gates.outcome import Check, CheckOutcome, GateResult, Outcome, Verdict

__all__ = ["Check", "CheckOutcome", "GateResult", "Outcome", "Verdict"]
