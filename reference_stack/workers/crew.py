"""The workers as their parent sees them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge

from reference_stack.workers.board import Board, Slab
from reference_stack.workers.counts import count_in
from reference_stack.workers.worker import WorkerSettings

Told = Callable[[str], None]  # "" when what was asked for is done, else why not


@dataclass(slots=True)
class Child:
    """One worker. `ready_s` is when it began to serve, `leaving_s` when it was told to end, on the monotonic clock."""

    pid: int
    pidfd: int
    ready_from: int | None
    slab: Slab
    generation: int
    born_s: float = field(default_factory=time.monotonic)
    ready_s: float | None = None
    leaving_s: float | None = None
    stuck: bool = False

    @property
    def ready(self) -> bool:
        return self.ready_s is not None

    @property
    def served_s(self) -> float:
        """For how long it has served."""
        return 0.0 if self.ready_s is None else time.monotonic() - self.ready_s

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.born_s

    def state(self, generation: int) -> str:
        """Return in a word where it is in its life, when workers of `generation` serve."""
        if self.leaving_s is not None:
            return "ending"
        if not self.ready:
            return "starting"
        return "stuck" if self.stuck else "serving" if self.generation == generation else "ready"

    def tell(self, number: int) -> None:
        """Send it a signal; one that has just ended is left alone."""
        try:
            signal.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            return

    def dismiss(self, number: int = signal.SIGTERM) -> None:
        """Tell it to end, and expect that it does."""
        self.leaving_s = self.leaving_s or time.monotonic()
        self.tell(number)


@dataclass(slots=True)
class Roll:
    """New workers that are to take over by `until_s`, all of them or none; then the old ones are seen off."""

    settings: WorkerSettings
    until_s: float
    told: Told
    took_over: bool = False


@dataclass(slots=True)
class Crew:
    """The workers by pid, and the settings of those that serve: the ones of `generation`."""

    settings: WorkerSettings
    generation: int = 0
    children: dict[int, Child] = field(default_factory=dict)

    def of(self, generation: int) -> list[Child]:
        """Return the workers of `generation` that are to stay."""
        return [each for each in self.children.values() if each.generation == generation and each.leaving_s is None]

    @property
    def serving(self) -> list[Child]:
        return [each for each in self.of(self.generation) if each.ready]


class ParentMeasures:
    """What the parent counts, in a slab of its own."""

    def __init__(self, board: Board) -> None:
        slab = board.slabs[0]
        slab.take(os.getpid())
        count_in(slab)
        registry = CollectorRegistry()
        self.workers = Gauge("hxp_gateway_workers", "Workers that serve.", registry=registry)
        self.deaths = Counter("hxp_gateway_worker_deaths", "Workers that ended by themselves.", registry=registry)
        self.stuck = Counter(
            "hxp_gateway_worker_stuck", "Times that a worker's event loop did not answer.", registry=registry
        )
        self.rolls = Counter(
            "hxp_gateway_rolling_restarts", "Rolling restarts by how they ended.", ("result",), registry=registry
        )


def ended_how(status: int) -> str:
    """Return in words how a process ended, from what waitpid says."""
    code = os.waitstatus_to_exitcode(status)
    return signal.Signals(-code).name if code < 0 else f"exit {code}"
