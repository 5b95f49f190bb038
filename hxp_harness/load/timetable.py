"""Which request is due next: a schedule in which requests may wait for the answers of others. Pure, no clock."""

from __future__ import annotations

import heapq
import sys
from collections.abc import Sequence

from hxp_harness.load.plan import Due

NEVER_NS = sys.maxsize


class Timetable:
    """Hands out the places of `schedule` in the order of their times, in nanoseconds since `t0_ns`.

    A request that follows another is due when that one has ended and its think time has passed. In a closed loop
    (`slots` > 0) every request is due its think time after a slot became free; they go in the order of the schedule.
    """

    def __init__(self, schedule: Sequence[Due], slots: int = 0) -> None:
        self._schedule = schedule
        self._followers = {due.after: place for place, due in enumerate(schedule) if due.after >= 0}
        self._slots = slots
        self._queue = iter(range(len(schedule))) if slots else iter(())
        self._heap: list[tuple[int, int]] = []

    def begin(self, t0_ns: int) -> None:
        """Count times from `t0_ns`."""
        if self._slots:
            for _ in range(self._slots):
                self._free(t0_ns)
            return
        self._heap = [
            (t0_ns + int(due.intended_s * 1e9), place) for place, due in enumerate(self._schedule) if due.after < 0
        ]
        heapq.heapify(self._heap)

    @property
    def next_ns(self) -> int:
        """When the next request is due; NEVER_NS when that is not known, or there is none."""
        return self._heap[0][0] if self._heap else NEVER_NS

    def take(self) -> tuple[int, int]:
        """Remove the next request; return its time and its place in the schedule."""
        return heapq.heappop(self._heap)

    def follower(self, due: Due) -> int | None:
        """Return the place of the request that follows the answer to `due`; None when there is none."""
        return self._followers.get(due.index)

    def ended(self, due: Due, end_ns: int) -> None:
        """Note that the request `due` ended at `end_ns`, answered or failed: who waited for it becomes due."""
        if self._slots:
            self._free(end_ns)
        elif (place := self.follower(due)) is not None:
            self._push(place, end_ns)

    def _free(self, at_ns: int) -> None:
        place = next(self._queue, None)
        if place is not None:
            self._push(place, at_ns)

    def _push(self, place: int, at_ns: int) -> None:
        heapq.heappush(self._heap, (at_ns + int(self._schedule[place].think_s * 1e9), place))
