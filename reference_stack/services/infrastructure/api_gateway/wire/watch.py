"""Deadlines of everything that waits, looked after by one timer: a timer each would cost more than the rest."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol, runtime_checkable

# How late a deadline may be noticed, for each of so many that are watched: to look at more at once would hold all up.
TICK_S = 0.05
MOST_A_LOOK = 2000


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
    """Calls `expire` of what is due, within TICK_S or a few, between `start` and `stop`."""

    def __init__(self) -> None:
        self._watched: set[Watched] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._round: list[Watched] = []  # what this round has not looked at
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
        self._round = self._round or list(self._watched)
        looked = self._round[-MOST_A_LOOK:]
        del self._round[-MOST_A_LOOK:]
        for each in [each for each in looked if each.due_s <= now_s]:
            if each in self._watched:
                each.expire(now_s)
