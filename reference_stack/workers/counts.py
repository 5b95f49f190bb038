"""Metrics of several processes as one: counted in shared memory, added up when somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from threading import Lock

from prometheus_client import CollectorRegistry, Metric, generate_latest, values
from prometheus_client.registry import Collector

from reference_stack.workers.board import Board, Series, Slab

_Labels = tuple[tuple[str, str], ...]
_LEAST, _LARGEST = ("min", "livemin"), ("max", "livemax")


def count_in(slab: Slab) -> None:
    """Let every metric that is made from now on in this process keep its numbers in `slab`.

    `ValueClass` is the seam that the client library has for its own way over files, which costs several times as much.
    """
    spare = memoryview(bytearray(8)).cast("d")  # where a series without room is counted, for nobody

    class SharedValue:
        """One number; the lock is for code that counts on other threads."""

        _multiprocess = False

        def __init__(
            self,
            kind: str,
            metric: str,
            sample: str,
            names: Sequence[str],
            given: Sequence[str],
            text: str,
            multiprocess_mode: str = "",
            **_: object,
        ) -> None:
            labels = tuple(zip(names, given, strict=True))
            slot = slab.slot(Series(kind, metric, sample, labels, text, multiprocess_mode))
            self._cells, self._slot = (spare, 0) if slot is None else (slab.values, slot)
            self._lock = Lock()

        def inc(self, amount: float) -> None:
            with self._lock:
                self._cells[self._slot] += amount

        def set(self, value: float, timestamp: float | None = None) -> None:
            del timestamp
            with self._lock:
                self._cells[self._slot] = value

        def get(self) -> float:
            return self._cells[self._slot]

        def set_exemplar(self, exemplar: object) -> None:
            """Exemplars are not kept."""

        def get_exemplar(self) -> None:
            return None

    values.ValueClass = SharedValue  # chosen at import there, for one process


class Mirror:
    """Copies into `slab` what collectors only read when they are asked, so that others see it too.

    Counters go on from what the slab had: the process before this one counted that. A gauge's family may say in
    `multiprocess_mode` how several become one, as the client library's own gauges do.
    """

    def __init__(self, slab: Slab, collectors: Sequence[Collector]) -> None:
        self._slab = slab
        self._collectors = collectors
        self._places: dict[Series, tuple[int, float] | None] = {}

    def copy(self) -> None:
        """Bring the slab up to date."""
        for collector in self._collectors:
            for metric in collector.collect():
                mode = str(getattr(metric, "multiprocess_mode", ""))
                for sample in metric.samples:
                    if not sample.name.endswith("_created"):
                        labels = tuple(sample.labels.items())
                        series = Series(metric.type, metric.name, sample.name, labels, metric.documentation, mode)
                        self._put(series, sample.value)

    def _put(self, series: Series, value: float) -> None:
        if series not in self._places:
            slot = self._slab.slot(series)
            kept = self._slab.values[slot] if slot is not None and series.kind == "counter" else 0.0
            self._places[series] = None if slot is None else (slot, kept)
        place = self._places[series]
        if place is not None:
            self._slab.values[place[0]] = place[1] + value


def page_of(board: Board, mirror: Mirror | None = None) -> Callable[[CollectorRegistry], bytes]:
    """Return the page of all processes of `board`, brought up to date with what the asked one's registry knows."""

    def page(registry: CollectorRegistry) -> bytes:
        if mirror is not None:
            mirror.copy()
        merged = CollectorRegistry()
        merged.register(_Together(board.slabs, registry))
        return generate_latest(merged)

    return page


class _Together(Collector):
    def __init__(self, slabs: Iterable[Slab], registry: CollectorRegistry) -> None:
        self._slabs = slabs
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        families = _added_up(self._slabs)
        yield from families.values()
        for metric in self._registry.collect():
            if metric.name not in families:
                yield metric


def _added_up(slabs: Iterable[Slab]) -> dict[str, Metric]:
    kinds: dict[str, Series] = {}
    found: dict[str, dict[tuple[str, _Labels], float]] = {}
    for slab in slabs:
        lives = slab.pid != 0
        for slot, series in enumerate(slab.series()):
            if series.kind == "gauge" and not lives:
                continue  # how something stood in a process that is gone
            kinds.setdefault(series.metric, series)
            samples = found.setdefault(series.metric, {})
            key = (series.sample, series.labels)
            value = slab.values[slot]
            samples[key] = value if key not in samples else _together(series, samples[key], value)
    families = {}
    for name, first in kinds.items():
        family = families[name] = Metric(name, first.text, first.kind)
        add = _add_histogram if first.kind == "histogram" else _add_plain
        add(family, found[name])
    return families


def _together(series: Series, one: float, other: float) -> float:
    if series.mode in _LEAST:
        return min(one, other)
    return max(one, other) if series.mode in _LARGEST else one + other


def _add_plain(family: Metric, samples: dict[tuple[str, _Labels], float]) -> None:
    for (name, labels), value in samples.items():
        family.add_sample(name, dict(labels), value)


def _add_histogram(family: Metric, samples: dict[tuple[str, _Labels], float]) -> None:
    """Buckets are kept each by itself, and shown as Prometheus has them: with all that is below."""
    sums = {labels: value for (name, labels), value in samples.items() if name.endswith("_sum")}
    buckets: dict[_Labels, list[tuple[str, float]]] = {labels: [] for labels in sums}
    for (name, labels), value in samples.items():
        if name.endswith("_bucket"):
            buckets.setdefault(labels[:-1], []).append((labels[-1][1], value))
    for labels, rows in buckets.items():
        below = 0.0
        for bound, value in sorted(rows, key=lambda row: float(row[0])):
            below += value
            family.add_sample(f"{family.name}_bucket", {**dict(labels), "le": bound}, below)
        family.add_sample(f"{family.name}_count", dict(labels), below)
        family.add_sample(f"{family.name}_sum", dict(labels), sums.get(labels, 0.0))
