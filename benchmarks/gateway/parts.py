"""The benchmark's parts: peers against each other, the price of each feature, how cost grows."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gateway import figures, ours, peers, subjects
from benchmarks.gateway.experiments import FAST, MIDDLE, SLOW, Pace, loads
from benchmarks.gateway.figures import DIRECT, LITELLM, NGINX, ROUTER, Readings
from benchmarks.gateway.measure import Bench, Reading
from benchmarks.gateway.programs import CannotRun, Load
from benchmarks.gateway.subjects import Command, Running

Say = Callable[[str], None]
OURS = "our gateway"


@dataclass(frozen=True, slots=True)
class Part:
    """What a part found: tables for people, readings for machines, and what could not be measured."""

    markdown: str
    readings: Sequence[Reading]
    left_out: Sequence[str]


@dataclass(frozen=True, slots=True)
class Turn:
    """One subject and the loads that it takes in each round."""

    name: str
    running: Running
    loads: Mapping[str, Load]


def take_turns(bench: Bench, turns: Sequence[Turn], rounds: int, say: Say) -> Readings:
    """Read every subject under its loads, `rounds` times, the order reversed in every other round."""
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
    rate = (
        f"{reading.events_per_s:.0f} events/s" if reading.events_per_s else f"{reading.requests_per_s:.0f} requests/s"
    )
    wrong = f", {reading.errors} ERRORS" if reading.errors else ""
    return (
        f"{reading.subject}, {reading.experiment}: {reading.cpu_us:.1f} us CPU, {rate}, "
        f"p50 {reading.p50_us:.0f} us, p99 {reading.p99_us:.0f} us{wrong}"
    )


@contextmanager
def started(command: Command, folder: Path, cores: frozenset[int]) -> Iterator[Running]:
    with subjects.running(command, folder, cores) as running:
        yield running


def _known_peers(cache: Path, say: Say) -> Mapping[str, tuple[Pace, Callable[[Path, int], Command]]]:
    """Return how each peer and we are started; getting a program may raise CannotRun."""

    def python(make: Callable[[Path, Path, int], Command]) -> Callable[[Path, int], Command]:
        return lambda folder, port: make(peers.python_peers(cache, say), folder, port)

    return {
        NGINX: (FAST, lambda folder, port: subjects.nginx(peers.nginx(cache, say), folder, port)),
        ROUTER: (FAST, python(subjects.vllm_router)),
        OURS: (MIDDLE, ours.gateway),
        LITELLM: (SLOW, python(subjects.litellm)),
    }


def compare(bench: Bench, cores: frozenset[int], cache: Path, say: Say, options: argparse.Namespace) -> Part:
    """Compare the gateways under the four loads."""
    left_out: list[str] = []
    with ExitStack() as held:
        turns = [Turn(DIRECT, Running(bench.backend.port, 0), loads(FAST, options.seconds))]
        for name, (pace, make) in _known_peers(cache, say).items():
            if options.only and name not in options.only:
                continue
            folder = Path(held.enter_context(tempfile.TemporaryDirectory()))
            say(f"starting {name}")
            try:
                running = held.enter_context(subjects.running(make(folder, bench.backend.port), folder, cores))
            except CannotRun as error:
                left_out.append(f"{name}: {error}")
                say(f"left out: {left_out[-1]}")
                continue
            turns.append(Turn(name, running, loads(pace, options.seconds)))
        readings = take_turns(bench, turns, options.rounds or 4, say)
    texts = [figures.comparison_table(readings)]
    texts += [figures.demands_table(readings, name) for name in readings.subjects() if name.startswith(OURS)]
    return _part(texts, readings, left_out)


def _part(texts: Sequence[str], readings: Readings, left_out: Sequence[str]) -> Part:
    notes = [f"- {line}" for line in (*figures.complaints(readings), *(f"left out: {line}" for line in left_out))]
    return Part("\n\n".join((*texts, *(["\n".join(notes)] if notes else []))), list(readings.all), left_out)


PARTS = {"peers": compare}
