"""Looks at traces while they come in: shows progress, and says when more load would tell nothing new."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

from hxp_harness import interrupt
from hxp_harness.gates.early import EarlyJudge, parts_of
from hxp_harness.gates.facts import Asked, RunFacts
from hxp_harness.gates.gate import Gate, needs_gaps
from hxp_harness.gates.looks import Look, looks
from hxp_harness.gates.pile import Pile
from hxp_harness.gates.tripwire import tripped
from hxp_harness.gates.verdict import certain
from hxp_harness.load.plan import Due
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
    """Judges each part of the run as it becomes complete, and looks at all of them together.

    Of the first half it keeps columns, some 170 bytes a request, and the gaps between tokens only where a gate is on
    them. Once it has said stop it says nothing more: what comes in then is what the stop has cut off.
    """

    def __init__(
        self,
        contract: Contract,
        replicates: Replicates,
        gates: Sequence[Gate],
        display: Display,
        schedule: Sequence[Due],
        *,
        budget_s: float | None = None,
    ) -> None:
        self._gates, self._display, self._stream = tuple(gates), display, contract.stream
        self._facts = RunFacts(Asked.of(contract, replicates))
        self._parts = replicates.count * parts_of(replicates.count, replicates.requests)
        self._early = EarlyJudge(gates, self._parts)
        self._requests = replicates.count * replicates.requests
        self._first = sum(due.replicate < 0 for due in schedule)
        self._pile = Pile([due.intended_s for due in schedule[self._first :]]) if contract.open_loop else None
        per_replicate = self._parts // replicates.count
        self._looks = {per_replicate * look.done: look for look in looks(replicates.count)[:-1]}
        self._kept_parts = max(self._looks, default=0)
        self._open: dict[int, list[Trace]] = {}
        self._kept: list[TraceTable] = []  # the first half's parts, in order
        self._gaps = needs_gaps(gates)
        self._stopped = False
        self._until_s = None if budget_s is None else time.monotonic() + budget_s
        self.out_of_budget = False

    def see(self, traces: Sequence[Trace]) -> bool:
        """Take new traces; return True when the run is decided, so that more load would tell nothing, or must end.

        Raises KeyboardInterrupt when a stop was asked for.
        """
        interrupt.check()
        self._display.see(traces)
        if self._stopped:
            return True
        for trace in traces:
            if trace.replicate >= 0:
                self._open.setdefault((trace.index - self._first) * self._parts // self._requests, []).append(trace)
        decided = self._piles_up(traces) or self._look()
        if not decided and self._until_s is not None and time.monotonic() >= self._until_s:
            self.out_of_budget = True
            self._display.say("the time allowed is used up; stopping")
        self._stopped = decided or self.out_of_budget
        return self._stopped

    def _look(self) -> bool:
        """Look at the parts that are complete, in order."""
        while len(self._open.get(self._early.parts, ())) >= self._size(self._early.parts):
            number = self._early.parts
            traces = self._open.pop(number)
            part = TraceTable.from_traces(traces, stream=self._stream)
            failed = self._early.look(part)
            if looks_broken := tripped(self._gates, part):
                self._display.say(f"{looks_broken[0]} looks broken; stopping")
                return True
            if failed and self._early.parts < self._parts:
                names = ", ".join(str(gate) for gate in failed)
                self._say(f"{names} does not hold")
                return True
            if number < self._kept_parts:
                self._kept.append(part if self._gaps else part.without_gaps())
            look = self._looks.get(number + 1)
            if look is not None and self._decides(look):
                self._say("what was measured so far decides it")
                return True
        return False

    def _decides(self, look: Look) -> bool:
        table = TraceTable.joined(self._kept)
        self._kept = [] if look is self._looks[self._kept_parts] else [table]
        return certain(table, self._gates, self._facts, look)

    def _piles_up(self, traces: Sequence[Trace]) -> bool:
        if self._pile is None or not self._pile.see([trace.end_s for trace in traces if trace.replicate >= 0]):
            return False
        self._say("requests pile up, the service does not keep up with the rate")
        return True

    def _size(self, part: int) -> int:
        edges = [-(-number * self._requests // self._parts) for number in (part, part + 1)]
        return max(edges[1] - edges[0], 1)

    def _say(self, why: str) -> None:
        done = self._early.parts / self._parts
        when = f"after {done:.0%}" if done else f"within the first {1 / self._parts:.1%}"
        self._display.say(f"certain {when} of the run: {why}; stopping")
