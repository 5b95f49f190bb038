"""Everybody takes turns: each subject under each of its loads once a round, the order reversed in every other round."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.gateway.figures import Readings
from benchmarks.gateway.measure import Bench, Reading
from benchmarks.gateway.programs import Load
from benchmarks.gateway.subjects import Running

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Turn:
    """One subject and the loads that it takes in each round."""

    name: str
    running: Running
    loads: Mapping[str, Load]


def take_turns(bench: Bench, turns: Sequence[Turn], rounds: int, say: Say) -> Readings:
    """Read every subject under its loads, `rounds` times; say each reading and how long the rest will take."""
    found: list[Reading] = []
    total = rounds * sum(len(turn.loads) for turn in turns)
    began_s = time.monotonic()
    for number in range(rounds):
        for turn in turns if number % 2 == 0 else reversed(turns):
            for experiment, load in turn.loads.items():
                reading = bench.read(turn.name, turn.running, experiment, load, number)
                found.append(reading)
                left_s = (time.monotonic() - began_s) / len(found) * (total - len(found))
                say(f"{len(found)}/{total}, {left_s:.0f} s left: {_summary(reading)}")
    return Readings(found)


def _summary(reading: Reading) -> str:
    streamed = reading.events_per_s > 0
    rate = f"{reading.events_per_s:.0f} events/s" if streamed else f"{reading.requests_per_s:.0f} requests/s"
    wrong = f", {reading.errors} ERRORS" if reading.errors else ""
    return (
        f"{reading.subject}, {reading.experiment}: {reading.cpu_us:.1f} us CPU, {rate}, "
        f"p50 {reading.p50_us:.0f} us, p99 {reading.p99_us:.0f} us{wrong}"
    )
