"""What the rest of the stack asks of the cache: values with a lifetime, and a rate limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from reference_stack.errors import StackError


class Unavailable(StackError):
    """The cache did not answer in time, or not at all; callers go on without it or refuse, but never wait."""

    exit_code = 5


@dataclass(frozen=True, slots=True)
class Allowance:
    """The answer of a rate limit: `left` is what remains of the window, `retry_s` when to ask again (0 if allowed)."""

    allowed: bool
    left: int
    retry_s: float


# Where plenty is left, one draw gets no more than this part of it.
SHARES = 16


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked of a limit by one who draws for many.

    None is given unless `least` (>= 1) can be; at least `want` where that is left; up to `most` while plenty is left,
    and less as it runs out, so that little lies about with those who do not need it. `owed` is what was used beyond
    what was drawn; `back` has what was drawn in which part and is not used.
    """

    least: int
    want: int
    most: int
    owed: int = 0
    back: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Draw:
    """What was given, and what is `left` for others.

    It may be used for `lasts_s` from when the call was sent, and counts in `part`, which is never nought. Where nothing
    was given, `least` can be in `retry_s` if nobody draws meanwhile. In `whole_s` all of the limit is left again.
    Another `born` than before says that all before was forgotten, by a lapse of time or a loss of data; 0 says nothing.
    """

    given: int
    left: int
    lasts_s: float
    part: int
    retry_s: float = 0.0
    whole_s: float = 0.0
    born: int = 0


class Cache(Protocol):
    """Values by name within one namespace. Every call raises Unavailable while the server cannot be asked."""

    async def get(self, name: str) -> bytes | None:
        """Return the value, None when there is none or its time is over."""
        ...

    async def put(self, name: str, value: bytes, ttl_s: float) -> None:
        """Keep `value` for `ttl_s` seconds (> 0; to the millisecond)."""
        ...

    async def drop(self, name: str) -> None:
        """Forget the value, if there is one."""
        ...

    async def allow(self, name: str, limit: int, window_s: float, cost: int = 1) -> Allowance:
        """Take `cost` (>= 1) of a limit, as `draw` does; a refused call costs nothing."""
        ...

    async def draw(self, name: str, limit: int, window_s: float, ask: Ask) -> Draw:
        """Take a share of the `limit` that holds for any `window_s` seconds; exact, whoever draws at the same time.

        A window slides by a sixtieth of itself, on the server's clock.
        """
        ...

    async def hold(self, name: str, holder: str, limit: int, least: int, most: int, ttl_s: float) -> int:
        """Make `holder` hold between `least` and `most` of `limit` places, and return how many, for `ttl_s` seconds.

        `least` are held whatever others hold, for they are in use; of the rest all holders together get no more than
        `limit`. A holder that does not hold again within its time holds nothing.
        """
        ...

    async def ping(self) -> str:
        """Return "" when the server answers and takes values, else why not."""
        ...

    async def close(self) -> None: ...
