"""Memory that a parent and its workers share: what each counted, and how each is.

It is mapped once, before the first fork, so that any worker can read what all of them wrote, and nothing is lost when
one is killed. A slab has one writer at a time: a worker that takes the slab of a dead one goes on from its counts.
"""

from __future__ import annotations

import json
import mmap
import threading
import time
from dataclasses import dataclass

MOST_SERIES = 8192
_KEY_BYTES = 192 * MOST_SERIES
_HEAD = 8  # doubles
_PID, _BEAT, _COUNT, _KEY_END, _LEFT_OUT, _LEAVES = range(6)
_WORD = 8
_SLAB_BYTES = (_HEAD + MOST_SERIES) * _WORD + _KEY_BYTES


@dataclass(frozen=True, slots=True)
class Series:
    """One number of a metric, as its label values make it; `mode` says how gauges of several workers become one."""

    kind: str
    metric: str
    sample: str
    labels: tuple[tuple[str, str], ...]
    text: str
    mode: str


class Slab:
    """What one worker counted. `pid` is 0 while it is nobody's."""

    def __init__(self, memory: memoryview) -> None:
        numbers = (_HEAD + MOST_SERIES) * _WORD
        cells = memory[:numbers].cast("d")
        self._head = cells[:_HEAD]
        self.values = cells[_HEAD:]
        self._keys = memory[numbers:]
        self._known: list[Series] = []
        self._read_to = 0
        self._slots: dict[Series, int] = {}
        self._lock = threading.Lock()

    @property
    def pid(self) -> int:
        return int(self._head[_PID])

    @pid.setter
    def pid(self, pid: int) -> None:
        self._head[_PID] = pid

    @property
    def left_out(self) -> int:
        """Series that had no room: their counts are in no page."""
        return int(self._head[_LEFT_OUT])

    def beat(self) -> None:
        """Say that the worker's loop goes round."""
        self._head[_BEAT] = time.monotonic()

    @property
    def beat_s(self) -> float:
        """When it last did, on the monotonic clock; 0 while it never did."""
        return self._head[_BEAT]

    def leave(self) -> None:
        """Say that the worker accepts no more connections."""
        self._head[_LEAVES] = 1.0

    @property
    def leaves(self) -> bool:
        return self._head[_LEAVES] != 0.0

    def take(self, pid: int) -> None:
        """Make it the slab of process `pid`: counts go on, gauges begin at nought."""
        for slot, series in enumerate(self.series()):
            self._slots[series] = slot
            if series.kind == "gauge":
                self.values[slot] = 0.0
        self._head[_BEAT] = self._head[_LEAVES] = 0.0
        self.pid = pid

    def slot(self, series: Series) -> int | None:
        """Return where `series` is counted, or None when there is no room for another."""
        with self._lock:
            found = self._slots.get(series)
            return self._add(series) if found is None else found

    def _add(self, series: Series) -> int | None:
        key = json.dumps([series.kind, series.metric, series.sample, series.labels, series.text, series.mode]).encode()
        slot, end = int(self._head[_COUNT]), int(self._head[_KEY_END])
        if slot >= MOST_SERIES or end + len(key) + 1 > _KEY_BYTES:
            self._head[_LEFT_OUT] += 1
            return None
        self._keys[end : end + len(key) + 1] = key + b"\n"
        self._head[_KEY_END] = end + len(key) + 1
        self._head[_COUNT] = slot + 1  # last: a reader believes what is counted
        self._slots[series] = slot
        return slot

    def series(self) -> list[Series]:
        """Return the series that are counted here, each at its slot."""
        count = int(self._head[_COUNT])
        if count > len(self._known):
            end = int(self._head[_KEY_END])
            for line in bytes(self._keys[self._read_to : end]).splitlines():
                kind, metric, sample, labels, text, mode = json.loads(line)
                pairs = tuple((name, value) for name, value in labels)
                self._known.append(Series(kind, metric, sample, pairs, text, mode))
            self._read_to = end
        return self._known


class Board:
    """Room for `slabs` processes, and whether the whole service is being stopped."""

    def __init__(self, slabs: int) -> None:
        memory = memoryview(mmap.mmap(-1, _WORD + slabs * _SLAB_BYTES))
        self._stopping = memory[:_WORD].cast("d")
        self.slabs = tuple(
            Slab(memory[_WORD + at * _SLAB_BYTES : _WORD + (at + 1) * _SLAB_BYTES]) for at in range(slabs)
        )

    @property
    def stopping(self) -> bool:
        return self._stopping[0] != 0.0

    def stop(self) -> None:
        self._stopping[0] = 1.0

    @property
    def room(self) -> int:
        """How many more processes there is room for."""
        return sum(not slab.pid for slab in self.slabs)

    def free(self) -> Slab | None:
        """Return a slab that is nobody's, those with counts first, so that few are ever used; None when all are."""
        return max((slab for slab in self.slabs if not slab.pid), key=lambda slab: len(slab.series()), default=None)
