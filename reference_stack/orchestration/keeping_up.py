"""A server that ends by itself is started again, a bounded number of times, and what happened to it is told."""

from __future__ import annotations

from reference_stack.workers.backoff import Backoff

_SETTLED_S = 10.0
_MOST_IN_A_ROW = 9  # pauses of 0, 0, 0.1 ... 5 s: somewhat more than ten seconds


class KeepingUp:
    """The ends of one server, and whether it is worth a new start.

    A start that fails counts as an end. Whoever served for `settled_s` seconds begins anew; after `most` ends in a row
    without that it is left down.
    """

    def __init__(self, settled_s: float = _SETTLED_S, most: int = _MOST_IN_A_ROW) -> None:
        self._backoff = Backoff(settled_s)
        self._most = most
        self._ends = 0
        self._how = ""

    def pause_s(self, served_s: float, how: str) -> float | None:
        """Return how long to wait before the next start, after it served `served_s` and ended as `how` says.

        None: it ended too often.
        """
        pause_s = self._backoff.pause_s(served_s)
        self._ends += 1
        self._how = how
        return None if self.gave_up else pause_s

    @property
    def gave_up(self) -> bool:
        """Whether it is left down."""
        return self._backoff.early_deaths >= self._most

    def told(self, *, serves: bool) -> str:
        """Return what a person should know of it, in one line."""
        times = "once" if self._ends == 1 else f"{self._ends} times"
        now = "left down" if self.gave_up else "started again" if serves else "being started again"
        return f"ended by itself {times} (last: {self._how}), {now}"
