"""Looks at traces while they come in: shows progress, and says when a run has certainly failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hxp_harness import interrupt
from hxp_harness.gates.early import EarlyJudge
from hxp_harness.gates.gate import Gate
from hxp_harness.metrics.table import TraceTable
from hxp_harness.profile import Contract, Replicates
from hxp_harness.trace import Trace


class Display(Protocol):
    """Where progress is shown."""

    def see(self, traces: Sequence[Trace]) -> None:
        """Take new traces; an empty sequence says that time went by."""

    def say(self, text: str) -> None:
        """Show that something else begins."""


class Watch:
    """Judges each replicate as it becomes complete; holds the traces of the replicates under way and no others."""

    def __init__(self, contract: Contract, replicates: Replicates, gates: Sequence[Gate], display: Display) -> None:
        self._early = EarlyJudge(gates)
        self._display = display
        self._stream = contract.stream
        self._requests = replicates.requests
        self._last = replicates.count - 1
        self._open: dict[int, list[Trace]] = {}

    def see(self, traces: Sequence[Trace]) -> bool:
        """Take new traces; return True when some gate has failed for certain, so that more load would tell nothing.

        Raises KeyboardInterrupt when a stop was asked for.
        """
        interrupt.check()
        self._display.see(traces)
        for trace in traces:
            if trace.replicate >= 0:
                self._open.setdefault(trace.replicate, []).append(trace)
        failed: tuple[Gate, ...] = ()
        for number in [number for number, seen in self._open.items() if len(seen) >= self._requests]:
            failed = self._early.look(TraceTable.from_traces(self._open.pop(number), stream=self._stream))
            if failed and number < self._last:
                names = ", ".join(str(gate) for gate in failed)
                self._display.say(f"certain after {self._early.replicates} replicates: {names} does not hold; stopping")
        return bool(failed)
