"""Rate limits that hold while the cache is out: never infinite, never a reason to wait."""

from __future__ import annotations

import time
from collections.abc import Callable

from reference_stack.services.integration.cache.port import Allowance, Cache, Unavailable

_MOST_WINDOWS = 10_000


class Limiter:
    """The cache's limits, exact over all processes; while it is out, a share of each limit counted in this process.

    `sharers` is how many processes share the limits: each then allows limit / sharers, and 1 at least. A window that is
    counted here begins anew, so that who asks while the cache goes out or comes back may have up to twice the limit.
    """

    def __init__(self, cache: Cache, sharers: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self._cache = cache
        self._sharers = sharers
        self._clock = clock
        self._windows: dict[str, tuple[float, int]] = {}  # name -> when it ends, what is used of it

    async def allow(self, name: str, limit: int, window_s: float, cost: int = 1) -> Allowance:
        """See port.Cache.allow; never raises Unavailable."""
        try:
            return await self._cache.allow(name, limit, window_s, cost)
        except Unavailable:
            return self._allow_here(name, limit, window_s, cost)

    def _allow_here(self, name: str, limit: int, window_s: float, cost: int) -> Allowance:
        now = self._clock()
        share = max(limit // self._sharers, min(limit, 1))
        ends, used = self._windows.get(name, (now + window_s, 0))
        if ends <= now:
            ends, used = now + window_s, 0
        if used + cost > share:
            return Allowance(False, max(share - used, 0), ends - now)
        if name not in self._windows and not self._room(now):
            return Allowance(False, 0, window_s)
        self._windows[name] = (ends, used + cost)
        return Allowance(True, share - used - cost, 0.0)

    def _room(self, now: float) -> bool:
        """Forget windows that are over; return whether one more may be counted."""
        if len(self._windows) >= _MOST_WINDOWS:
            self._windows = {name: window for name, window in self._windows.items() if window[0] > now}
        return len(self._windows) < _MOST_WINDOWS
