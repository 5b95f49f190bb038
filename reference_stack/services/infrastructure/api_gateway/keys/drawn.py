"""What a process drew of a limit in the last minute: it tells a source that has lost its data."""

from __future__ import annotations

from collections.abc import Iterable

from reference_stack.services.integration.cache.port import Draw

_WINDOW_MS = 60_000


class Drawn:
    """By part of the source's window, which is named by when it ends on the source's clock (milliseconds)."""

    __slots__ = ("_born", "_parts")

    def __init__(self) -> None:
        self._born = 0
        self._parts: dict[int, int] = {}

    def note(self, drawn: Draw, owed: int, back: Iterable[tuple[int, int]]) -> int:
        """Note an answer to a draw that handed `owed` and `back` over; return how much the source has forgotten."""
        parts = self._parts
        for part, amount in back:
            if part in parts:
                parts[part] -= amount
        forgotten = 0
        if drawn.born != self._born and drawn.born:
            if self._born:
                forgotten = sum(amount for part, amount in parts.items() if part + _WINDOW_MS > drawn.part)
                parts.clear()
            self._born = drawn.born
        if drawn.given or owed:
            if drawn.part not in parts:  # a new part: once a second at most
                self._parts = parts = {part: each for part, each in parts.items() if part + _WINDOW_MS > drawn.part}
            parts[drawn.part] = parts.get(drawn.part, 0) + drawn.given + owed
        return forgotten
