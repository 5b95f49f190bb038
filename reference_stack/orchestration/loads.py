"""Which loads a calibration measures, and in which order. Pure.

The constants are fitted to closed loops, from one client to as many as the engine runs at once: what it does at every
batch, its capacity among them; and to a few open ones, whose requests come one by one. They are tested on other open
loops from idle to past saturation, which nothing was fitted to. Visits are short, and those of each kind are spread
over the whole session, so that a machine that becomes slower in between is slower for both; the tests come several
times: two real runs of one load differ, near capacity most of all.
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
    few are near capacity; open loops at `learned` parts of capacity to fit to, and at `parts` to test on, each as often
    as it says. A run has two windows of `requests`, or of `window_s` where that is shorter, after `warm_up_s`.
    """

    closed: int = 5
    learned: Sequence[tuple[float, int]] = ((0.45, 1), (1.0, 1), (0.2, 1), (0.75, 1))
    parts: Sequence[tuple[float, int]] = ((0.9, 3), (0.1, 1), (1.2, 2), (0.3, 3), (0.6, 3))
    requests: int = 600
    window_s: float = 3.5
    warm_up_s: float = 2.0
    engine: str = "vllm"


@dataclass(frozen=True, slots=True)
class Load:
    """One run: a closed loop of `slots` clients, or, with none, an open one at `rate_rps`. `held_back`: to test on."""

    name: str
    rate_rps: float
    slots: int = 0
    held_back: bool = False


def fullest(model: str, speed: Speed, most_slots: int) -> Load:
    """Return the closed loop of as many clients as the engine runs at once. What it is served is its capacity."""
    return _closed(model, speed, most_slots)


def in_turn(model: str, speed: Speed, most_slots: int, loads: Loads) -> Iterator[Load]:
    """Yield the runs of `model` that come after the fullest one, in order."""
    smaller = loads.closed - 1
    clients = {max(1, round(most_slots * (step / smaller) ** 2)) for step in range(smaller)} - {most_slots}
    closed = [_closed(model, speed, slots) for slots in sorted(clients, reverse=True)]
    learned = _opened(model, speed, loads.learned, held_back=False)
    fitted_to = [load for pair in itertools.zip_longest(learned, closed) for load in pair if load is not None]
    yield from _spread(_opened(model, speed, loads.parts, held_back=True), fitted_to)


def _closed(model: str, speed: Speed, slots: int) -> Load:
    return Load(f"{model}-closed-{slots}", speed.rate_rps(slots), slots)


def _opened(model: str, speed: Speed, parts: Sequence[tuple[float, int]], *, held_back: bool) -> list[Load]:
    turns = range(max((times for _, times in parts), default=0))
    return [
        Load(f"{model}-{part * 100:.0f}{f'{AGAIN}{turn}' if turn else ''}", speed.most_rps * part, held_back=held_back)
        for turn in turns
        for part, times in parts
        if turn < times
    ]


def _spread(*kinds: Sequence[Load]) -> Iterator[Load]:
    """Yield all loads, those of each kind in order and evenly over the whole."""
    placed = [((place + 0.5) / len(loads), load) for loads in kinds for place, load in enumerate(loads)]
    yield from (load for _, load in sorted(placed, key=lambda one: one[0]))


def first_of(name: str) -> str:
    """Return the name of the run that the run called `name` repeats, or its own."""
    return name.rpartition(AGAIN)[0] or name
