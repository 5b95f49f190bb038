"""How long to wait before a worker that died is replaced. Pure: times in, a pause out."""

from __future__ import annotations

_QUICK = 2  # deaths in a row that may be bad luck
_FIRST_S = 0.1
_LONGEST_S = 5.0


class Backoff:
    """At once, unless workers die one after another before they have served for `settled_s`; then 0.1 s, doubled up to
    5 s.
    """

    def __init__(self, settled_s: float = 1.0) -> None:
        self._settled_s = settled_s
        self.early_deaths = 0

    def pause_s(self, served_s: float) -> float:
        """Return how long to wait after a worker that served for `served_s` seconds."""
        if served_s >= self._settled_s:
            self.early_deaths = 0
            return 0.0
        self.early_deaths += 1
        beyond = self.early_deaths - _QUICK
        return 0.0 if beyond <= 0 else min(_FIRST_S * 2.0 ** (beyond - 1), _LONGEST_S)
