"""The engine in virtual time: the scheduler stepped by the physics through a schedule of arrivals. Pure, no clock."""

from __future__ import annotations

import random
from bisect import insort
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from reference_stack.services.ai_models.api_server import ApiServer
from reference_stack.services.ai_models.model_spec import ModelSpec
from reference_stack.services.ai_models.physics import Device, step_time_s
from reference_stack.services.ai_models.scheduler import Limits, Scheduler, Sequence

Process = Literal["poisson", "constant"]


@dataclass(slots=True, eq=False, kw_only=True)
class Simulated(Sequence):
    """One request: `arrival_s` is when it was to be sent, `tokens_s` when each of its tokens left the server."""

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


def simulate(
    spec: ModelSpec, device: Device, limits: Limits, requests: Iterable[Simulated], *, slots: int = 0
) -> list[Simulated]:
    """Serve `requests`, which are in order of arrival, and return them with the time of every token.

    Each must fit the KV alone, prompt and output together. With `slots` it is a closed loop of so many clients: the
    first request of each comes at its `arrival_s`, every other when one has been answered, and is given that time.
    """
    served = list(requests)
    coming = deque(served[:slots] if slots else served)
    later = deque(served[slots:] if slots else ())
    read: deque[tuple[float, Simulated]] = deque()  # by the API server, and when each is in the engine's queue
    scheduler: Scheduler[Simulated] = Scheduler(limits)
    server = ApiServer(device.api_request_s, device.api_token_s)

    def take(until_s: float) -> None:
        while coming and coming[0].arrival_s <= until_s:
            one = coming.popleft()
            read.append((server.take(one.arrival_s) + device.request_overhead_s, one))

    at_s = 0.0
    chosen_s = 0.0  # when the step that starts at `at_s` was chosen
    while coming or read or scheduler.busy:
        if not scheduler.busy:
            if not read:
                take(coming[0].arrival_s)
            at_s = chosen_s = max(at_s, read[0][0])
            take(chosen_s)
        while read and read[0][0] <= chosen_s:
            scheduler.add(read.popleft()[1])
        step = scheduler.step(at_s)
        end_s = at_s + step_time_s(spec, device, step.prefill_tokens, step.decode_seqs, step.context_tokens)
        chosen_s = at_s if device.schedules_ahead else end_s
        at_s = end_s
        take(at_s)
        for sequence in scheduler.finish(step, at_s):
            sent_s = sequence.tokens_s
            sent_s.append(server.send(at_s, sent_s[-1] if sent_s else 0.0))
            if later and sequence.over:
                following = later.popleft()
                following.arrival_s = sent_s[-1]
                insort(coming, following, key=_arrival_s)
    return served


def _arrival_s(one: Simulated) -> float:
    return one.arrival_s
