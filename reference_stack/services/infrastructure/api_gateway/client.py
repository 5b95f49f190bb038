"""Who waits for an answer, as the relay sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from reference_stack.services.infrastructure.api_gateway.refusal import Refusal

# How long a client that reads nothing is waited for to take the last event of a stream that failed.
LAST_WORD_S = 0.5


class Client(Protocol):
    """Who waits for the answer: hears `whole` or `refuse`; or `begin`, any number of `part`, `last` or `broken`.

    None of them waits: a client that reads too slowly calls the relay's `pause`, and `resume` when it has caught up.
    After `whole`, `refuse`, `last` or `broken` it hears nothing more, and the call is its to settle.
    """

    def whole(self, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None: ...

    def begin(self, headers: Sequence[tuple[bytes, bytes]]) -> None: ...

    def part(self, data: bytes) -> None: ...

    def chunk(self, wire: bytes, at: int) -> None:
        """Hear of a part as the model's server framed it: a chunk, whose payload is from `at` to the last two bytes."""
        ...

    def last(self, data: bytes) -> None: ...

    def broken(self, event: bytes) -> None:
        """Hear the last of a stream that failed; a client that does not take it within LAST_WORD_S is let go."""
        ...

    def refuse(self, refusal: Refusal) -> None:
        """Hear that there is no answer; nothing else was told before."""
        ...
