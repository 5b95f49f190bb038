"""The way of nearly all events of a stream: from one socket to the other in one step, while each is like the last."""

from __future__ import annotations

from collections.abc import Callable

from reference_stack.services.infrastructure.api_gateway.events import Tally
from reference_stack.services.infrastructure.api_gateway.likeness import Likeness
from reference_stack.services.infrastructure.api_gateway.wire.chunk import payload_at


class Shortcut:
    """Has at hand what an event needs.

    With thousands of streams nothing of one is in the processor's cache when its next event comes, so that each object
    on the way costs more than what is done with it.
    """

    __slots__ = ("_hear", "_likeness", "_note", "_tally", "_write")

    def __init__(
        self,
        likeness: Likeness,
        tally: Tally,
        hear: Callable[[], None],
        note: Callable[[int], object],
        write: Callable[[bytes], object],
    ) -> None:
        """`hear` is told of each read, `note` how many events with text are about to go out, `write` sends a chunk."""
        self._likeness = likeness
        self._tally = tally
        self._hear = hear
        self._note = note
        self._write = write

    def takes(self, read: bytes) -> bool:
        """Pass on what one read brought if it is one chunk of one event like the last, and return whether it was."""
        at = payload_at(read)
        if not at or not self._likeness.has(read, at, len(read) - 2):
            return False
        tally = self._tally
        tally.texts = texts = tally.texts + 1
        self._hear()
        self._note(texts)
        self._write(read)  # our framing is the same
        return True
