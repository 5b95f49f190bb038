"""Stops asking a server that does not answer. Pure: it counts, and its owner does the asking."""

from __future__ import annotations


class Breaker:
    """Open after `failures` calls in a row without an answer; the next answer closes it."""

    def __init__(self, failures: int = 3) -> None:
        self._most = failures
        self._failures = 0

    @property
    def open(self) -> bool:
        return self._failures >= self._most

    def answered(self) -> None:
        """The server answered, be it with a refusal."""
        self._failures = 0

    def failed(self) -> bool:
        """The server did not answer; return whether that opened the breaker."""
        self._failures += 1
        return self._failures == self._most
