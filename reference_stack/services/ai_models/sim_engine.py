"""The simulated engine in real time: steps the scheduler by the physics, and wakes who waits for tokens."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from reference_stack.services.ai_models.model_spec import ModelSpec
from reference_stack.services.ai_models.physics import Device, step_time_s
from reference_stack.services.ai_models.scheduler import Scheduler, Sequence, Step
from reference_stack.services.ai_models.sim_metrics import Ended, SimMetrics
from reference_stack.services.ai_models.timer import Timer

# Behind by more than this, the engine takes the lost time as lost instead of catching up in a burst.
RESYNC_S = 0.05


@dataclass(slots=True, eq=False, kw_only=True)
class Live(Sequence):
    """A sequence that somebody waits for. `deliver` is called after each of its tokens, when `generated` has moved."""

    deliver: Callable[[Live], None]
    ended: Ended
    choice: int = 0


class SimEngine:
    """One engine: submit sequences, and each gets its tokens when the device would have made them."""

    def __init__(
        self, spec: ModelSpec, device: Device, scheduler: Scheduler[Live], metrics: SimMetrics, speed: float
    ) -> None:
        self._spec = spec
        self._device = device
        self._speed = speed
        self._scheduler = scheduler
        self._metrics = metrics
        self._incoming: deque[Live] = deque()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def queued(self) -> int:
        """Requests that have arrived and are not yet in the scheduler's queue."""
        return len(self._incoming)

    @property
    def waiting(self) -> int:
        return len(self._incoming) + len(self._scheduler.waiting)

    @property
    def load(self) -> int:
        """Requests inside, waiting or running."""
        return self.waiting + len(self._scheduler.running)

    def submit(self, live: Live) -> None:
        """Take `live` as having arrived at its `arrival_s`. Starts the engine on first use."""
        self._incoming.append(live)
        self._wake.set()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def abort(self, live: Live) -> None:
        """Stop making `live`; its blocks are free at once. One that is over stays so."""
        if live.over:
            return
        if live in self._incoming:
            self._incoming.remove(live)
        else:
            self._scheduler.abort(live)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        timer = Timer()
        try:
            at_s = chosen_s = 0.0
            while True:
                if not self._scheduler.busy:
                    at_s = chosen_s = max(await self._first_arrival_s(), at_s)
                    await timer.until(at_s)
                end_s = await self._step(timer, at_s, chosen_s)
                chosen_s = at_s if self._device.schedules_ahead else end_s
                at_s = end_s
        finally:
            timer.close()

    async def _first_arrival_s(self) -> float:
        while not self._incoming:
            self._wake.clear()
            await self._wake.wait()
        return self._ready_s(self._incoming[0])

    def _ready_s(self, live: Live) -> float:
        return live.arrival_s + self._device.request_overhead_s / self._speed

    async def _step(self, timer: Timer, at_s: float, chosen_s: float) -> float:
        """Run the step that starts at `at_s` with all that was there when it was chosen, and return its end."""
        while self._incoming and self._ready_s(self._incoming[0]) <= chosen_s:
            self._scheduler.add(self._incoming.popleft())
        step = self._scheduler.step(at_s)
        if not step.prefill_tokens + step.decode_seqs:
            return at_s  # all that had arrived has left again
        duration_s = step_time_s(self._spec, self._device, step.prefill_tokens, step.decode_seqs, step.context_tokens)
        end_s = at_s + duration_s / self._speed
        await timer.until(end_s)
        behind_s = time.monotonic() - end_s
        if behind_s > RESYNC_S or duration_s < 1e-9:
            # A device without step time has no clock of its own: its tokens come when the loop turns.
            self._metrics.late(behind_s if duration_s >= 1e-9 else 0.0)
            end_s += behind_s
        self._deliver(step, end_s)
        return end_s

    def _deliver(self, step: Step[Live], end_s: float) -> None:
        before = [(sequence, sequence.last_token_s) for sequence in step.sampled]
        served = self._scheduler.finish(step, end_s)
        gaps_s = [end_s - last for sequence, last in before if last is not None and sequence.last_token_s == end_s]
        self._metrics.step(step, served, gaps_s)
        for live in served:
            if live.over:
                self._metrics.ended(live, live.ended)
            live.deliver(live)
