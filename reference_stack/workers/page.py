"""The Prometheus page of several processes: what each counted, added up.

Whoever makes it serves requests with the same event loop, so it must be quick: which number belongs to which line is
worked out when series were added, and the rest is a sum a line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest

from reference_stack.workers.board import Board, Series, Slab
from reference_stack.workers.counts import Mirror

_Labels = tuple[tuple[str, str], ...]
_Combine = Callable[[Sequence[float]], float]
_COMBINE: dict[str, _Combine] = {"min": min, "livemin": min, "max": max, "livemax": max}


@dataclass(frozen=True, slots=True)
class _Row:
    """One line: all but its number, and where the parts of that are (slab and slot)."""

    head: str
    parts: tuple[tuple[Slab, int], ...]
    combine: _Combine


@dataclass(frozen=True, slots=True)
class _Family:
    """One metric. `groups` are a histogram's buckets in their order with its sum last; elsewhere each is one row."""

    name: str
    kind: str
    head: str
    groups: tuple[tuple[_Row, ...], ...]


def page_of(board: Board, mirror: Mirror | None = None) -> Callable[[CollectorRegistry], bytes]:
    """Return what makes the page of all processes of `board`, and of what only the asked one's registry knows."""
    layout: tuple[_Family, ...] = ()
    sizes: tuple[int, ...] = ()
    elsewhere: list[str] = []

    def page(registry: CollectorRegistry) -> bytes:
        nonlocal layout, sizes, elsewhere
        if mirror is not None:
            mirror.copy()
        now = tuple(len(slab.series()) for slab in board.slabs)
        if now != sizes:
            sizes, layout = now, _layout(board.slabs)
            shared = {family.name for family in layout}
            unseen = (metric for metric in registry.collect() if metric.name not in shared)
            elsewhere = [sample.name for metric in unseen for sample in metric.samples]
        text = "".join(line for family in layout for line in _lines(family)).encode()
        return text + generate_latest(registry.restricted_registry(elsewhere)) if elsewhere else text

    return page


def _lines(family: _Family) -> Iterator[str]:
    yield family.head
    if family.kind == "histogram":
        for group in family.groups:
            yield from _histogram(family.name, group)
        return
    for (row,) in family.groups:
        # A gauge tells how something stands: nothing of a process that is gone.
        parts = [slab.values[slot] for slab, slot in row.parts if slab.pid or family.kind != "gauge"]
        if parts:
            yield f"{row.head} {row.combine(parts)!r}\n"


def _histogram(name: str, group: tuple[_Row, ...]) -> Iterator[str]:
    """Buckets are kept each by itself, and shown as Prometheus has them: with all that is below."""
    below = 0.0
    *buckets, total = group
    for row in buckets:
        for slab, slot in row.parts:
            below += slab.values[slot]
        yield f"{row.head} {below!r}\n"
    yield f"{name}_count{total.head.removeprefix(f'{name}_sum')} {below!r}\n"
    yield f"{total.head} {sum(slab.values[slot] for slab, slot in total.parts)!r}\n"


def _layout(slabs: Sequence[Slab]) -> tuple[_Family, ...]:
    parts: dict[str, dict[tuple[str, _Labels], list[tuple[Slab, int]]]] = {}
    firsts: dict[str, Series] = {}
    for slab in slabs:
        for slot, series in enumerate(slab.series()):
            first = firsts.setdefault(series.metric, series)
            if series.kind == first.kind:
                key = (series.sample, series.labels)
                parts.setdefault(series.metric, {}).setdefault(key, []).append((slab, slot))
    return tuple(_family(firsts[name], found) for name, found in parts.items())


def _family(first: Series, found: dict[tuple[str, _Labels], list[tuple[Slab, int]]]) -> _Family:
    combine = _COMBINE.get(first.mode, sum)
    groups: dict[_Labels, list[tuple[float, _Row]]] = {}
    for (sample, labels), places in found.items():
        row = _Row(sample + _shown(labels), tuple(places), combine)
        if first.kind != "histogram":
            groups[labels] = [(0.0, row)]
        elif sample.endswith("_bucket"):
            groups.setdefault(labels[:-1], []).append((float(labels[-1][1]), row))
        else:
            groups.setdefault(labels, []).append((float("inf"), row))
    # The sum stands behind the last bucket, whose bound is infinite as well: sorting keeps equals in their order.
    ordered = (tuple(row for _, row in sorted(rows, key=_place)) for rows in groups.values())
    name = f"{first.metric}_total" if first.kind == "counter" else first.metric
    help_text = first.text.replace("\\", r"\\").replace("\n", r"\n")
    return _Family(first.metric, first.kind, f"# HELP {name} {help_text}\n# TYPE {name} {first.kind}\n", tuple(ordered))


def _place(row: tuple[float, _Row]) -> tuple[float, bool]:
    return row[0], "_bucket" not in row[1].head.partition("{")[0]


def _shown(labels: _Labels) -> str:
    told = ",".join(f'{name}="{_escaped(value)}"' for name, value in sorted(labels))
    return f"{{{told}}}" if told else ""


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
