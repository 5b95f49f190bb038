"""Who waits for an answer, as the relay sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

    @property
    def takes_chunks(self) -> Callable[[bytes], object] | None:
        """What takes further parts in the chunks in which the model's server framed them; None where nothing does."""
        ...

    def last(self, data: bytes) -> None: ...

    def broken(self, event: bytes) -> None:
        """Hear the last of a stream that failed; a client that does not take it within LAST_WORD_S is let go."""
        ...

    def refuse(self, refusal: Refusal) -> None:
        """Hear that there is no answer; nothing else was told before."""
        ...
