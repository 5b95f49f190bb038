"""What a tenant pays in the gateway for another that misbehaves there.

The good tenant sends at a fixed rate. Its neighbour does the same thing past the gateway, at it, at it and past it:
client and neighbour share a core, and what that costs is in both. What is judged is the ratio of the two p99 that
stand beside each other; so many ratios are taken that one which the machine spoilt does not count.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from math import comb, inf

from benchmarks.gateway import ours
from benchmarks.gateway.figures import figure, table
from benchmarks.gateway.measure import Reading
from benchmarks.gateway.neighbours import HUNG_MODEL, Neighbour, hung_server
from benchmarks.gateway.programs import CannotRun, Load
from benchmarks.gateway.room import Room
from reference_stack.schemas.api.keys import KeyLimits

# RELIABILITY: a fault of one leaves the others with no error and this much of their p99.
MOST_RATIO = 1.2
ALONE = "nobody"
_BAD_KEYS = 900_000_000
_GOOD_RPS = 500.0
_DOUBT = 0.025  # on either side


@dataclass(frozen=True, slots=True)
class Pair:
    """Two readings of the good tenant that follow one another: the neighbour `at` the gateway, and `past` it.

    `events_per_s` is what the neighbour did during the first, 0 where it only holds on to something.
    """

    kind: str
    at: Reading
    past: Reading
    events_per_s: float

    @property
    def ratio(self) -> float:
        return self.at.p99_us / self.past.p99_us

    @property
    def event_us(self) -> float:
        """CPU time of the gateway for one event of the neighbour; not a number where it did none."""
        more = self.at.core_share - self.past.core_share
        return more / self.events_per_s * 1e6 if self.events_per_s else float("nan")


def measured(room: Room, rounds: int, seconds: float) -> tuple[list[Pair], list[Reading]]:
    """Return two pairs for each neighbour and round, and a reading without neighbour for each round."""
    pairs: list[Pair] = []
    alone: list[Reading] = []
    with hung_server(room.bench.client_cores) as hung:
        changes = {"upstreams": {HUNG_MODEL: {"base_url": f"http://127.0.0.1:{hung}/v1"}}}
        running = room.start_ours(replace(ours.FULL, changes=changes))
        if running is None:
            raise CannotRun(room.left_out[-1])
        room.backing.put_keys(ours.stored_keys(replace(ours.FULL, limits=KeyLimits(60, concurrent=500)), _BAD_KEYS))
        bench, key = room.bench, ours.secrets(_BAD_KEYS, 1)[0]
        load = Load(connections=16, rate_rps=_GOOD_RPS, seconds=seconds)
        at, past, into_the_void = (
            Neighbour(bench.programs, bench.client_cores, port, key)
            for port in (running.port, bench.backend.port, hung)
        )

        def read(kind: str, neighbour: Neighbour, number: int) -> tuple[Reading, float]:
            events, active_s = neighbour.events, neighbour.active_s
            with neighbour.kinds[kind]() if kind in neighbour.kinds else nullcontext():
                time.sleep(0.3)  # so that it is at work when the reading begins
                reading = bench.read(ours.OURS, running, kind, load, number)
            active_s = neighbour.active_s - active_s
            return reading, (neighbour.events - events) / active_s if active_s else 0.0

        read("warm", at, 0)
        for number in range(rounds):
            alone.append(read(ALONE, at, number)[0])
            for kind in at.kinds:
                control = into_the_void if "hangs" in kind else past
                order = (control, at, at, control) if number % 2 == 0 else (at, control, control, at)
                found = [(each is at, *read(kind, each, number)) for each in order]
                for half in (found[:2], found[2:]):
                    (_, one, events_per_s), (_, other, _) = sorted(half, key=lambda each: not each[0])
                    pairs.append(Pair(kind, one, other, events_per_s))
                    room.say(f"{kind}: p99 {one.p99_us:.0f} us, past the gateway {other.p99_us:.0f} us")
    return pairs, alone


def surely(values: Sequence[float]) -> tuple[float, float]:
    """Return bounds of the median of what these are drawn from, 95 % sure whatever its shape: two of the values.

    By their ranks (David and Nagaraja, Order Statistics, 2003, 7.1); of fewer than six values there are none.
    """
    ranked, count = sorted(values), len(values)
    beyond, rank = 0.0, 0
    while rank < count // 2 and beyond + comb(count, rank) / 2**count <= _DOUBT:
        beyond += comb(count, rank) / 2**count
        rank += 1
    return (ranked[rank - 1], ranked[-rank]) if rank else (-inf, inf)


def isolation_table(pairs: Sequence[Pair], alone: Sequence[Reading]) -> str:
    """Return a line for each neighbour: what it did and took, the good tenant's p99 and errors, and the verdict."""
    p99_ms = figure([each.p99_us / 1000 for each in alone]).shown(2)
    rows = [(ALONE, "-", "-", p99_ms, "-", str(sum(each.errors for each in alone)), "-", "", "")]
    for kind in dict.fromkeys(each.kind for each in pairs):
        own = [each for each in pairs if each.kind == kind]
        ratios = [each.ratio for each in own]
        low, high = surely(ratios)
        errors = sum(each.at.errors for each in own)
        met = "missed" if low > MOST_RATIO or errors else "met" if high <= MOST_RATIO else "not shown"
        rate = statistics.median(each.events_per_s for each in own)
        rows.append(
            (
                kind,
                f"{rate:.0f}" if rate else "-",
                figure([each.event_us for each in own]).shown(),
                figure([each.at.p99_us / 1000 for each in own]).shown(2),
                figure([each.past.p99_us / 1000 for each in own]).shown(2),
                str(errors),
                f"{statistics.median(ratios):.2f}" + (f" ({low:.2f} to {high:.2f})" if high < inf else ""),
                f"<= {MOST_RATIO}",
                met,
            )
        )
    head = (
        "the other tenant",
        "times/s",
        "CPU us each",
        "p99 ms",
        "past the gateway",
        "errors",
        "ratio",
        "demanded",
        "",
    )
    return table(head, rows)
