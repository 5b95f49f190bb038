"""In which order two targets are visited, with which seeds. Pure.

A visit is a short run of one target. First A is visited in pairs of its own: what differs between those is noise. Then
A and B take turns as A B B A A B B A, so that a drift of the machine falls on both alike. Both of a pair have the same
seed: the same arrivals and prompts. No target sees a seed twice, since its cache would answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hxp_harness.comparison.effect import Ends, Figure, mean_of
from hxp_harness.comparison.figures import figures_of
from hxp_harness.report.record import Record


@dataclass(frozen=True, slots=True)
class Visit:
    """`side` is a or b, or one of a1 and a2 where A is compared with itself."""

    side: str
    pair: int
    seed: int

    @property
    def target(self) -> str:
        return self.side[0]


def visits(pairs: int, floor: int, seed: int, *, shared: bool) -> list[Visit]:
    """Return all visits in their order; `shared`: A and B are one server, so that no seed may be used for both."""
    seeds = iter(range(seed, seed + 2 * (pairs + floor)))
    found = [Visit(side, pair, next(seeds)) for pair in range(floor) for side in ("a1", "a2")]
    for pair in range(pairs):
        first = next(seeds)
        second = next(seeds) if shared else first
        order = ("a", "b") if pair % 2 == 0 else ("b", "a")
        found += [Visit(side, pair, own) for side, own in zip(order, (first, second), strict=True)]
    return found


def visit_figures(records: Sequence[Record]) -> dict[str, Figure]:
    """Return the figures of one target with one value a visit: its replicates share their moment, so they are one."""
    each = [figures_of([record]) for record in records]
    names = [name for name in each[0] if all(name in one for one in each)] if each else []
    return {name: _joined([one[name] for one in each]) for name in names}


def _joined(figures: Sequence[Figure]) -> Figure:
    first = figures[0]
    values: list[Ends] = [mean_of(one.values, share=one.share) for one in figures if one.values]
    return Figure(first.name, first.unit, first.better, tuple(values), first.decides)
