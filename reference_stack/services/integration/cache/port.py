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
        """Take `cost` of the `limit` that each window of `window_s` seconds has; exact under any number of callers.

        A window begins with the first call in it. A refused call costs nothing.
        """
        ...

    async def ping(self) -> str:
        """Return "" when the server answers and takes values, else why not."""
        ...

    async def close(self) -> None: ...
