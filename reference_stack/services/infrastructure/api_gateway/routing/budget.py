"""How many requests may be sent a second time: a token bucket that requests fill, so that retries stay a share."""

from __future__ import annotations


class Budget:
    """Each request puts in `share` of a token and each retry takes one out; at most `most` are kept.

    It starts with one token: after N requests at most 1 + share * N retries were granted. A share of requests and not a
    rate, because a rate that is harmless on a busy day is a storm on a quiet one.
    """

    __slots__ = ("_most", "_share", "_tokens")

    def __init__(self, *, share: float, most: float = 10.0) -> None:
        self._share = share
        self._most = most
        self._tokens = min(1.0, most) if share > 0 else 0.0

    def request(self) -> None:
        """Count one request that came in."""
        self._tokens = min(self._tokens + self._share, self._most)

    def spend(self) -> bool:
        """Take one retry out; False when there is none."""
        # A share such as 0.1 is no binary fraction: ten of them are a hair less than one.
        if self._tokens < 1.0 - 1e-9:
            return False
        self._tokens -= 1.0
        return True
