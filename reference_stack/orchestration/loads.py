"""Which loads a calibration measures, and in which order. Pure.

The constants are fitted to closed loops, from one client to as many as the engine runs at once: what it does at every
batch, its capacity among them. They are tested on open loops from idle to past saturation, which nothing was fitted to.
The two kinds take turns, so that a machine that becomes slower in between is slower for both, and the open ones come
several times: two real runs of one load differ, near capacity most of all.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

AGAIN = "-again"  # stands in the name of a run that repeats another one


@dataclass(frozen=True, slots=True)
class Speed:
    """What a first look at an engine has told: requests/s at most, and seconds for one alone."""

    most_rps: float
    alone_s: float

    def rate_rps(self, slots: int) -> float:
        """Return about how many requests/s `slots` clients are served: each takes its time alone, and its turn."""
        return slots / (self.alone_s + slots / self.most_rps)


@dataclass(frozen=True, slots=True)
class Loads:
    """What to measure of each model.

    `closed` numbers of clients, from 1 to the most that the engine runs at once, evenly in their square root, so that a
    few are near capacity; open loops at `parts` of capacity, each as often as it says. A run has two windows of
    `requests`, or of `window_s` where that is shorter, after `warm_up_s`.
    """

    closed: int = 5
    parts: Sequence[tuple[float, int]] = ((0.9, 3), (0.1, 1), (1.2, 2), (0.3, 2), (0.6, 2))
    requests: int = 600
    window_s: float = 6.0
    warm_up_s: float = 3.0
    engine: str = "vllm"


@dataclass(frozen=True, slots=True)
class Load:
    """One run: a closed loop of `slots` clients, or, with none, an open one at `rate_rps`."""

    name: str
    rate_rps: float
    slots: int = 0

    @property
    def held_back(self) -> bool:
        """Whether it is to test the fit on."""
        return not self.slots


def fullest(model: str, speed: Speed, most_slots: int) -> Load:
    """Return the closed loop of as many clients as the engine runs at once. What it is served is its capacity."""
    return _closed(model, speed, most_slots)


def in_turn(model: str, speed: Speed, most_slots: int, loads: Loads) -> Iterator[Load]:
    """Yield the runs of `model` that come after the fullest one, in order."""
    smaller = loads.closed - 1
    clients = {max(1, round(most_slots * (step / smaller) ** 2)) for step in range(smaller)} - {most_slots}
    closed = [_closed(model, speed, slots) for slots in sorted(clients, reverse=True)]
    turns = range(max((times for _, times in loads.parts), default=0))
    opened = [
        Load(f"{model}-{part * 100:.0f}{f'{AGAIN}{turn}' if turn else ''}", speed.most_rps * part)
        for turn in turns
        for part, times in loads.parts
        if turn < times
    ]
    for pair in itertools.zip_longest(opened, closed):
        yield from (load for load in pair if load is not None)


def _closed(model: str, speed: Speed, slots: int) -> Load:
    return Load(f"{model}-closed-{slots}", speed.rate_rps(slots), slots)


def first_of(name: str) -> str:
    """Return the name of the run that the run called `name` repeats, or its own."""
    return name.rpartition(AGAIN)[0] or name
