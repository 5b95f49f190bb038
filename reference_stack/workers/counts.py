"""Lets the metrics of a process keep their numbers in shared memory, where the others see them."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

from prometheus_client import values
from prometheus_client.registry import Collector

from reference_stack.workers.board import Series, Slab


def count_in(slab: Slab) -> None:
    """Let every metric that is made from now on in this process keep its numbers in `slab`.

    `ValueClass` is the seam that the client library has for its own way over files, which costs several times as much.
    """
    spare = memoryview(bytearray(8)).cast("d")  # where a series without room is counted, for nobody

    class SharedValue:
        """One number; the lock is for code that counts on other threads.

        `add` and `put` are `inc` and `set` for who has it to itself.
        """

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

            cells, place = self._cells, self._slot

            def add(amount: float) -> None:
                cells[place] += amount

            def put(value: float) -> None:
                cells[place] = value

            self.add, self.put = add, put

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
