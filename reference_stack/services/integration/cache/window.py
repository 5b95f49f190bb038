"""A sliding window of a limit: what the script DRAW does (scripts.py), for one process alone. Pure.

The window is kept in sixty parts, each a count of what may be used until the part ends, after Figma's "sliding window
counters" (N. Mahdi, "An alternative approach to rate limiting", 2017). Theirs may let a little more in than the limit;
here a part is in the window until a whole window after its end, so that no span of a window's length has ever more.
"""

from __future__ import annotations

from reference_stack.services.integration.cache.port import SHARES, Ask, Draw

PARTS = 60


class Window:
    """Times are in milliseconds on a clock of the caller's; a part is named by when it ends."""

    def __init__(self, window_ms: int) -> None:
        self._window_ms = window_ms
        self._part_ms = max(window_ms // PARTS, 1)
        self._parts: dict[int, int] = {}

    def used(self, now_ms: int) -> int:
        """Return what counts at `now_ms`."""
        self._parts = {ends: used for ends, used in self._parts.items() if ends + self._window_ms > now_ms}
        return sum(self._parts.values())

    def back(self, part: int, amount: int) -> None:
        """Take back what was drawn in `part` and not used."""
        if part in self._parts:
            self._parts[part] = max(self._parts[part] - amount, 0)

    def draw(self, limit: int, ask: Ask, now_ms: int) -> Draw:
        """See port.Cache.draw."""
        for part, amount in ask.back:
            self.back(part, amount)
        left = limit - self.used(now_ms) - ask.owed
        given = share_of(left, ask)
        part_ms = self._part_ms
        ends = ((now_ms + part_ms // 4) // part_ms + 1) * part_ms  # a quarter of a part is enough to hear of it
        if given + ask.owed:
            self._parts[ends] = self._parts.get(ends, 0) + given + ask.owed
        retry_ms = 0 if given else self._retry_ms(limit, ask.least, now_ms)
        whole_ms = max((part + self._window_ms - now_ms for part, used in self._parts.items() if used), default=0)
        return Draw(given, max(left - given, 0), (ends - now_ms) / 1000, ends, retry_ms / 1000, whole_ms / 1000)

    def _retry_ms(self, limit: int, least: int, now_ms: int) -> int:
        """Return when `least` will be left if nobody draws meanwhile; a window where it never will."""
        left = limit - sum(self._parts.values())
        for part, used in sorted(self._parts.items()):
            left += used
            if left >= least:
                return part + self._window_ms - now_ms
        return self._window_ms


def share_of(left: int, ask: Ask) -> int:
    """Return how much of what is `left` is given."""
    return 0 if left < ask.least else min(left, max(ask.want, min(ask.most, left // SHARES)))
