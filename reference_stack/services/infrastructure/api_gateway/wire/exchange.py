"""One request to a model's server, and who hears of its answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from reference_stack.services.infrastructure.api_gateway.backend import Address

Headers = Sequence[tuple[bytes, bytes]]


# Takes of what one read brought the whole chunks that it begins with, as far as it can; returns how many bytes it took.
Takes = Callable[[bytes], int]


class Listener(Protocol):
    """Hears of one answer: `head`, any number of `part`, then `end`; or `lost` in place of what was to come."""

    def head(self, status: int, headers: Headers) -> None:
        """Hear of the status and the headers, their names in small letters."""
        ...

    def part(self, data: bytes) -> None:
        """Hear what one read from the socket brought of the body."""
        ...

    def end(self) -> None: ...

    def lost(self, why: str, *, reached: bool = True) -> None:
        """Hear that no more will come: it broke, or what came is no HTTP; or, not `reached`, there is no connection."""
        ...


class Carrier(Protocol):
    """The connection that an exchange is on."""

    def abort(self) -> None: ...

    def let_go(self) -> None: ...

    def shorten(self, takes: Takes) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class Exchange:
    """What the listener holds: it hears nothing more once it has called `cancel` or `release`."""

    __slots__ = ("address", "carrier", "heard", "listener", "paused", "request")

    def __init__(self, address: Address, request: bytes, listener: Listener) -> None:
        self.address = address
        self.request = request
        self.listener: Listener | None = listener
        self.carrier: Carrier | None = None
        self.heard = False
        self.paused = False

    def cancel(self) -> None:
        """Give the answer up by closing its connection: a model's server takes that as an abort."""
        self.listener = None
        carrier, self.carrier = self.carrier, None
        if carrier is not None:
            carrier.abort()

    def release(self) -> None:
        """Say that the rest of the answer, should any come, does not matter; the connection is kept if it ends soon."""
        self.listener = None
        carrier, self.carrier = self.carrier, None
        if carrier is not None:
            carrier.let_go()

    def shorten(self, takes: Takes) -> None:
        """Let `takes` have each further read instead of the listener, until it does not take one whole."""
        if self.carrier is not None:
            self.carrier.shorten(takes)

    def pause(self) -> None:
        """Stop reading the answer; TCP itself slows the server down."""
        if not self.paused:
            self.paused = True
            if self.carrier is not None:
                self.carrier.pause()

    def resume(self) -> None:
        if self.paused:
            self.paused = False
            if self.carrier is not None:
                self.carrier.resume()
