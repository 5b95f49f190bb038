"""The engine in virtual time: the scheduler stepped by the physics through a schedule of arrivals. Pure, no clock."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from reference_stack.services.ai_models.model_spec import ModelSpec
from reference_stack.services.ai_models.physics import Device, step_time_s
from reference_stack.services.ai_models.scheduler import Limits, Scheduler, Sequence

Process = Literal["poisson", "constant"]


@dataclass(slots=True, eq=False, kw_only=True)
class Simulated(Sequence):
    """One request: `arrival_s` is when it was to be sent, `tokens_s` when each of its tokens was made."""

    tokens_s: list[float] = field(default_factory=list)

    @property
    def end_s(self) -> float:
        return self.tokens_s[-1]

    @property
    def e2e_s(self) -> float:
        return self.tokens_s[-1] - self.arrival_s


def arrivals_s(process: Process, rate_rps: float, count: int, seed: int) -> Iterator[float]:
    """Yield `count` moments at `rate_rps`, in order, the same for the same seed.

    Another rate stretches the same draw, so that two rates can be compared without noise between them.
    """
    draw = random.Random(seed)  # noqa: S311 - arrivals, no secrets
    at_s = 0.0
    for _ in range(count):
        at_s += (draw.expovariate(1.0) if process == "poisson" else 1.0) / rate_rps
        yield at_s


def simulate(spec: ModelSpec, device: Device, limits: Limits, requests: Iterable[Simulated]) -> list[Simulated]:
    """Serve `requests`, which are in order of arrival, and return them with the time of every token.

    Each must fit the KV alone, prompt and output together.
    """
    served = list(requests)
    scheduler: Scheduler[Simulated] = Scheduler(limits)
    place, at_s = 0, 0.0
    chosen_s = 0.0  # when the step that starts at `at_s` was chosen
    while place < len(served) or scheduler.busy:
        if not scheduler.busy:
            at_s = chosen_s = max(at_s, served[place].arrival_s + device.request_overhead_s)
        while place < len(served) and served[place].arrival_s + device.request_overhead_s <= chosen_s:
            scheduler.add(served[place])
            place += 1
        step = scheduler.step(at_s)
        end_s = at_s + step_time_s(spec, device, step.prefill_tokens, step.decode_seqs, step.context_tokens)
        chosen_s = at_s if device.schedules_ahead else end_s
        at_s = end_s
        for sequence in scheduler.finish(step, at_s):
            sequence.tokens_s.append(at_s)
    return served
