"""The way of nearly all events of a stream: from one socket to the other in one step, while each is like the last."""

from __future__ import annotations

from collections.abc import Callable

from reference_stack.services.infrastructure.api_gateway.events import Tally
from reference_stack.services.infrastructure.api_gateway.likeness import PLAIN, Likeness, is_text
from reference_stack.services.infrastructure.api_gateway.ports import Ear, Mark
from reference_stack.services.infrastructure.api_gateway.wire.chunk import LINE_END, LINES, MOST_BYTES, chunk_at


class Shortcut:
    """Has at hand what an event needs.

    With thousands of streams nothing of one is in the processor's cache when its next event comes, so that each object
    on the way costs more than what is done with it.
    """

    __slots__ = (
        "_base",
        "_before",
        "_behind",
        "_behind_bytes",
        "_ear",
        "_likeness",
        "_place",
        "_tally",
        "_words",
        "_write",
    )

    def __init__(
        self, likeness: Likeness, tally: Tally, ear: Ear, mark: Mark, write: Callable[[bytes], object]
    ) -> None:
        """`ear` is told of each read, `mark` how many events with text are about to go out, `write` sends chunks."""
        self._likeness = likeness
        self._tally = tally
        self._ear = ear
        self._words, self._place, self._base = mark.words, mark.place, mark.base
        self._write = write
        self.renew()

    def renew(self) -> None:
        """Go by what the example is now."""
        likeness = self._likeness
        self._before, self._behind = likeness.before, likeness.behind + LINE_END
        self._behind_bytes = likeness.behind_bytes + len(LINE_END)

    def takes(self, read: bytes) -> int:
        """Pass on the chunks that a read begins with, each one event like the last; return how many bytes they are."""
        size = taken = len(read)
        line, before = LINES[min(size, MOST_BYTES)], self._before
        at = len(line)
        begins, ends = at + len(before), size - self._behind_bytes
        if (
            begins < ends
            and read.startswith(line)
            and read.startswith(before, at)
            and read.endswith(self._behind)
            and (not read[begins:ends].translate(None, PLAIN) or is_text(read, begins, ends))
        ):
            texts = 1
        else:
            taken, texts = self._several(read)
            if not texts:
                return 0
        tally = self._tally
        tally.texts = texts = tally.texts + texts
        self._ear.heard = True
        self._words[self._place] = self._base + texts
        self._write(read if taken == size else read[:taken])  # our framing is the same
        return taken

    def _several(self, read: bytes) -> tuple[int, int]:
        """Return how many bytes the chunks take that the read begins with, and how many they are."""
        taken = texts = 0
        while True:
            begins, ends = chunk_at(read, taken)
            if not begins or not self._likeness.has(read, begins, ends):
                return taken, texts
            taken = ends + len(LINE_END)
            texts += 1
