"""Deadlines of everything that waits, looked after by one timer: a timer each would cost more than the rest."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol, runtime_checkable

# How late a deadline may be noticed.
TICK_S = 0.05


class Watched(Protocol):
    """`due_s` is on the monotonic clock and may change at any time; infinity is never."""

    due_s: float

    def expire(self, now_s: float) -> None:
        """Do what is due. What stays watched must move its `due_s`."""
        ...


@runtime_checkable
class Cuttable(Protocol):
    """Something watched that can be ended before it is due."""

    def cut(self) -> None: ...


class Watch:
    """Calls `expire` of what is due, within TICK_S, between `start` and `stop`."""

    def __init__(self) -> None:
        self._watched: set[Watched] = set()
        self._timer: asyncio.TimerHandle | None = None
        self.add = self._watched.add
        self.discard = self._watched.discard

    def start(self) -> None:
        """Begin to look, on the running loop."""
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._look)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def cut(self) -> None:
        """End at once what can be cut."""
        for each in list(self._watched):
            if isinstance(each, Cuttable):
                each.cut()

    def _look(self) -> None:
        self.start()
        now_s = time.monotonic()
        for each in [each for each in self._watched if each.due_s <= now_s]:
            each.expire(now_s)
