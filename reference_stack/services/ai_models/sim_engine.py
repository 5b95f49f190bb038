"""The simulated engine in real time: steps the scheduler by the physics, and hands tokens to who waits for them."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from reference_stack.services.ai_models.api_server import ApiServer
from reference_stack.services.ai_models.model_spec import ModelSpec
from reference_stack.services.ai_models.physics import Device, step_time_s
from reference_stack.services.ai_models.scheduler import Scheduler, Sequence, Step
from reference_stack.services.ai_models.sim_metrics import Ended, SimMetrics
from reference_stack.services.ai_models.timer import Timer

# Behind by more than this, the engine takes the lost time as lost instead of catching up in a burst.
RESYNC_S = 0.05


@dataclass(slots=True, eq=False, kw_only=True)
class Live(Sequence):
    """A sequence that somebody waits for. `deliver` is called as each token leaves, when `delivered` has moved."""

    deliver: Callable[[Live], None]
    ended: Ended
    choice: int = 0
    delivered: int = 0
    sent_s: float = 0.0  # when its newest token leaves

    @property
    def complete(self) -> bool:
        return self.over and self.delivered == self.generated


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
        self._server = ApiServer(device.api_request_s / speed, device.api_token_s / speed)
        self._incoming: deque[tuple[float, Live]] = deque()  # with when each is ready to be scheduled
        self._leaving: deque[Live] = deque()  # made, and not yet sent
        self._wake = asyncio.Event()
        self._sends = asyncio.Event()
        self._tasks: tuple[asyncio.Task[None], ...] = ()

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

    def submit(self, *lives: Live) -> None:
        """Take the sequences of one request as having arrived at their `arrival_s`. Starts the engine on first use."""
        ready_s = self._server.take(lives[0].arrival_s) + self._device.request_overhead_s / self._speed
        self._incoming.extend((ready_s, live) for live in lives)
        self._wake.set()
        if not self._tasks:
            loop = asyncio.get_running_loop()
            self._tasks = (loop.create_task(self._run()), loop.create_task(self._send()))

    def abort(self, live: Live) -> None:
        """Stop making `live`; its blocks are free at once. One that is over stays so."""
        if live.over:
            return
        live.delivered = live.generated
        for place, (_, one) in enumerate(self._incoming):
            if one is live:
                del self._incoming[place]
                return
        self._scheduler.abort(live)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = ()

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
        return self._incoming[0][0]

    async def _step(self, timer: Timer, at_s: float, chosen_s: float) -> float:
        """Run the step that starts at `at_s` with all that was there when it was chosen, and return its end."""
        while self._incoming and self._incoming[0][0] <= chosen_s:
            self._scheduler.add(self._incoming.popleft()[1])
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
            leaves_s = self._server.send(end_s, live.sent_s)
            if leaves_s <= end_s:
                _hand_over(live)
            elif leaves_s != live.sent_s:  # else it goes with the one before it
                live.sent_s = leaves_s
                self._leaving.append(live)
                self._sends.set()

    async def _send(self) -> None:
        """Hand over what the API server has to work on first, when it has."""
        timer = Timer()
        try:
            while True:
                while not self._leaving:
                    self._sends.clear()
                    await self._sends.wait()
                await timer.until(self._leaving[0].sent_s)
                _hand_over(self._leaving.popleft())
        finally:
            timer.close()


def _hand_over(live: Live) -> None:
    while live.delivered < live.generated:
        live.delivered += 1
        live.deliver(live)
