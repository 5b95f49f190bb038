"""The benchmark's parts: peers against each other, what each feature costs, how cost grows, what a neighbour costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.gateway import figures, ours, peers, subjects
from benchmarks.gateway.experiments import FAST, LOADS, MIDDLE, SLOW, Pace, costs, growth_of, loads
from benchmarks.gateway.figures import BARE, DIRECT, LITELLM, NGINX, ROUTER, Readings
from benchmarks.gateway.isolation import isolation_table, measured
from benchmarks.gateway.measure import Reading
from benchmarks.gateway.programs import Load
from benchmarks.gateway.room import Room
from benchmarks.gateway.subjects import Command, Running
from benchmarks.gateway.turns import Turn, take_turns

# What one process of ours can be asked for.
OUR_PACE = FAST
_COLD = "each key for the first time"
_COLD_S, _MOST_COLD, _WARM = 30.0, 20_000, 1000


@dataclass(frozen=True, slots=True)
class Part:
    """What a part found: tables for people, readings for machines, and what could not be measured."""

    markdown: str
    readings: Sequence[Reading]
    left_out: Sequence[str]


@dataclass(frozen=True, slots=True)
class Asked:
    """`only` names the gateways to compare, none: all, and `loads` their loads; `rounds` None: as many as the part has.

    `seconds` is how long a reading of peers measures.
    """

    only: Sequence[str] = ()
    loads: Sequence[str] = LOADS
    rounds: int | None = None
    seconds: float = 1.5


def compare(room: Room, asked: Asked) -> Part:
    """Compare the gateways under the four loads, or those that are asked for."""

    def taken(pace: Pace) -> Mapping[str, Load]:
        return {name: load for name, load in loads(pace, asked.seconds).items() if name in asked.loads}

    turns = [Turn(DIRECT, Running(room.bench.backend.port, 0), taken(FAST))]
    with room.settled():
        for name, pace, make in _gateways(room):
            if asked.only and name not in asked.only:
                continue
            running = room.start(name, make)
            if running is not None:
                turns.append(Turn(name, running, taken(pace)))
        readings = take_turns(room.bench, turns, asked.rounds or 3, room.say)
        tables = [figures.comparison_table(readings), figures.demands_table(readings, ours.OURS)]
        return _part(tables, readings, room.left_out)


def _gateways(room: Room) -> Iterator[tuple[str, Pace, Callable[[Path], Command]]]:
    port = room.bench.backend.port
    yield NGINX, FAST, lambda folder: subjects.nginx(peers.nginx(room.cache, room.say), folder, port)
    yield ROUTER, FAST, lambda folder: subjects.vllm_router(peers.python_peers(room.cache, room.say), folder, port)
    yield BARE, FAST, lambda _: subjects.bare(port)
    yield ours.OURS, OUR_PACE, lambda folder: room.our_command(ours.FULL, folder)
    yield ours.REFERENCE.name, MIDDLE, lambda folder: room.our_command(ours.REFERENCE, folder)
    yield LITELLM, SLOW, lambda folder: subjects.litellm(peers.python_peers(room.cache, room.say), folder, port)


def features(room: Room, asked: Asked) -> Part:
    """Show what each feature costs: everything on, beside the same with one thing otherwise."""
    with room.settled():
        turns = _ours(room, ours.FEATURES, costs(OUR_PACE, asked.seconds / 2))
        readings = take_turns(room.bench, turns, asked.rounds or 2, room.say)
        always = (
            "metrics and the log line of a request have no setting that turns them off: their cost is in every line"
        )
        return _part([figures.cost_table(readings, "our gateway")], readings, [*room.left_out, always])


def growth(room: Room, asked: Asked) -> Part:
    """Show how CPU time grows with bodies, streams, workers and keys."""
    port = room.bench.backend.port
    found: list[Reading] = []
    tables = []
    with room.settled():
        grown = growth_of(OUR_PACE, asked.seconds / 2)
        turns = _ours(room, (ours.FULL,), grown)
        nginx = room.start(NGINX, lambda folder: subjects.nginx(peers.nginx(room.cache, room.say), folder, port))
        turns += [] if nginx is None else [Turn(NGINX, nginx, grown)]
        readings = take_turns(room.bench, turns, asked.rounds or 2, room.say)
        found += readings.all
        tables.append(figures.points_table(readings, "CPU us a request, or of streams an event"))
        left_out = [*room.left_out]
    with room.settled():
        readings = take_turns(
            room.bench, _ours(room, ours.WORKERS, costs(OUR_PACE, asked.seconds / 2)), asked.rounds or 2, room.say
        )
        found += readings.all
        tables.append(figures.cost_table(readings, "our gateway"))
        left_out += room.left_out
    keys = keys_growth(room, asked)
    return _part([*tables, keys.markdown], Readings([*found, *keys.readings]), [*left_out, *keys.left_out])


def keys_growth(room: Room, asked: Asked) -> Part:
    """Show what a key costs that is shown for the first time, and what keys cost that were, by how many there are."""
    with room.settled():
        turns = _ours(room, ours.KEYS, costs(OUR_PACE, asked.seconds / 2))
        cold = []
        for turn in turns:
            keys = turn.running.keys
            first = Load(connections=64, warm_s=0.0, seconds=_COLD_S, requests=min(len(keys), _MOST_COLD))
            cold.append(room.bench.read(turn.name, turn.running, _COLD, first))
            room.say(f"{turn.name}, {_COLD}: {cold[-1].cpu_us:.1f} us CPU")
        # Those that were shown last: all of them are remembered, among however many others.
        warm = [
            replace(turn, running=replace(turn.running, keys=turn.running.keys[:_MOST_COLD][-_WARM:])) for turn in turns
        ]
        readings = take_turns(room.bench, warm, asked.rounds or 2, room.say)
        tables = [
            figures.points_table(Readings(cold), "CPU us a request"),
            figures.cost_table(readings, "keys that were shown before"),
        ]
        return Part("\n\n".join(tables), [*cold, *readings.all], list(room.left_out))


def _ours(room: Room, variants: Sequence[ours.Variant], taken: Mapping[str, Load]) -> list[Turn]:
    turns = []
    for variant in variants:
        running = room.start_ours(variant)
        if running is not None:
            turns.append(Turn(variant.name, running, taken))
    return turns


def _part(tables: Sequence[str], readings: Readings, left_out: Sequence[str]) -> Part:
    notes = [
        f"- {line}"
        for line in (
            *figures.complaints(readings),
            *figures.limits(readings),
            *(f"left out: {line}" for line in left_out),
        )
    ]
    texts = [table for table in tables if table] + (["\n".join(notes)] if notes else [])
    return Part("\n\n".join(texts), list(readings.all), list(left_out))


def isolation(room: Room, asked: Asked) -> Part:
    """Show what a tenant pays for another that misbehaves."""
    with room.settled():
        pairs, alone = measured(room, asked.rounds or 6, 2 * asked.seconds)
        readings = [*alone, *(reading for pair in pairs for reading in (pair.at, pair.past))]
        found = _part([isolation_table(pairs, alone)], Readings(()), room.left_out)
        return Part(found.markdown, readings, found.left_out)


PARTS = {"peers": compare, "features": features, "growth": growth, "keys": keys_growth, "isolation": isolation}
