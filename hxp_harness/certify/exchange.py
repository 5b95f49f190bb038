"""One request on the golden server: its steps at their times, and the truth about them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

from hxp_harness.certify.script import Step
from hxp_harness.certify.timer import Deadlines
from hxp_harness.certify.truth import Truth, TruthEvent, TruthLog


class Sink(Protocol):
    """Where an exchange writes: its connection."""

    def send(self, payload: bytes, event: TruthEvent | None) -> None:
        """Hand `payload` to the kernel now and note in `event` when that was."""

    def finish(self, then: str, done: Callable[[], None]) -> None:
        """Call `done` when all is handed to the kernel, then keep (end), close or reset the connection."""


class Slots:
    """Admits `count` exchanges at a time, the rest in order of arrival; 0 is no bound."""

    def __init__(self, count: int) -> None:
        self._count = self._free = count or 1 << 62
        self._queue: deque[Exchange] = deque()

    @property
    def open(self) -> int:
        """How many exchanges are admitted or wait."""
        return self._count - self._free + len(self._queue)

    def enter(self, exchange: Exchange) -> None:
        """Begin `exchange` on its arrival, or when a slot becomes free."""
        if self._free:
            self._free -= 1
            exchange.begin(exchange.truth.arrived_s)
        else:
            self._queue.append(exchange)

    def leave(self, exchange: Exchange, at_s: float) -> None:
        """Give the slot of `exchange` to the next, whose timing counts from `at_s` or its own arrival if later."""
        if exchange in self._queue:
            self._queue.remove(exchange)
        elif self._queue:
            following = self._queue.popleft()
            following.begin(max(at_s, following.truth.arrived_s))
        else:
            self._free += 1


class Exchange:
    """Walks through the steps of one answer."""

    def __init__(
        self, sink: Sink, steps: Iterator[Step], truth: Truth, *, deadlines: Deadlines, slots: Slots, log: TruthLog
    ) -> None:
        self.truth = truth
        self._sink = sink
        self._steps = steps
        self._deadlines = deadlines
        self._slots = slots
        self._log: Callable[[Truth], None] = log.write
        self._due_s = 0.0
        self._step: Step | None = None
        self._left = False  # its slot is given back; bytes may still wait for the client to read

    def begin(self, start_s: float) -> None:
        """Start the timing at `start_s`."""
        self.truth.start_s = self._due_s = start_s
        self._advance()

    def cancel(self, ended: str) -> None:
        """Stop here; the truth says `ended`."""
        if not self.truth.ended:
            self._leave(time.monotonic())
            self._end(ended)

    def _advance(self) -> None:
        """Do every step that is due; come back at the time of the next."""
        while not self._left:
            self._step = next(self._steps)
            self._due_s = max(self._due_s, self.truth.start_s + self._step.due_s)
            if self._due_s > time.monotonic():
                self._deadlines.at(self._due_s, self._wake)
                return
            self._do(self._step)

    def _wake(self) -> None:
        if not self._left and self._step is not None:
            self._do(self._step)
            self._advance()

    def _do(self, step: Step) -> None:
        event = None
        if step.tokens:
            event = TruthEvent(due_s=self._due_s, lo_s=0.0, hi_s=0.0, tokens=step.tokens)
            self.truth.events.append(event)
        if step.payload:
            self._sink.send(step.payload, event)
        if step.then and not self._left:  # a failed send has cancelled it
            self._leave(self._due_s)
            self._sink.finish(step.then, partial(self._end, step.ended))

    def _leave(self, at_s: float) -> None:
        if not self._left:
            self._left = True
            self._slots.leave(self, at_s)

    def _end(self, ended: str) -> None:
        self.truth.ended = ended
        self.truth.end_s = time.monotonic()
        self._log(self.truth)
