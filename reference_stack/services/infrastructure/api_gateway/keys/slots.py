"""Places of a key for requests at the same time, held by this process among all others."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

from reference_stack.errors import StackError
from reference_stack.services.infrastructure.api_gateway.keys.lease import Clock

_PARTS = 100
# A place that falls free is kept for a moment, for whoever comes next.
_LINGER_S = 0.05
_AGAIN_S = 0.05

# Makes this process hold between so many places of a limit (the least, the most) and returns how many, and for how long
# in seconds; StackError: it is out.
Hold = Callable[[int, int, int], Awaitable[tuple[int, float]]]


class Slots:
    """`used` requests are under way on `held` places. While the source is out: 1/`sharers` of the limit.

    Places that were held before go on being held until their time is over, for nobody else is given them.
    """

    __slots__ = (
        "_again_s",
        "_clock",
        "_hear",
        "_held",
        "_held_until_s",
        "_holding",
        "_lingering",
        "_pending",
        "_share",
        "_sharers",
        "_source",
        "limit",
        "used",
    )  # fmt: skip

    def __init__(
        self, limit: int, source: Hold, sharers: int, clock: Clock, hear: Callable[[StackError | None], None]
    ) -> None:
        self.limit = limit
        self.used = 0
        self._held = 0
        self._held_until_s = -math.inf
        self._share = 0
        self._source = source
        self._sharers = sharers
        self._clock = clock
        self._hear = hear
        self._pending = 0
        self._again_s = -math.inf
        self._holding: asyncio.Task[None] | None = None
        self._lingering = False

    @property
    def idle(self) -> bool:
        return self.used == 0 and self._held == 0 and self._holding is None

    def has_place(self) -> bool:
        """Whether one more may begin."""
        held = self._held if self._clock() < self._held_until_s else 0
        return self.used < max(held, self._share)

    def change(self, limit: int) -> None:
        """Go on with another limit."""
        self.limit = limit
        self._again_s = -math.inf

    def take(self) -> None:
        self.used += 1

    def release(self) -> None:
        """One is over; its place is let go of a little later, unless it was taken again."""
        self.used -= 1
        if not self._lingering:
            self._lingering = True
            asyncio.get_running_loop().call_later(_LINGER_S, self._let_go)

    def has(self, _amount: int, _now_s: float) -> bool:
        """As of a lease."""
        return self.has_place()

    def refused(self, _amount: int, now_s: float) -> float | None:
        """Return in how many seconds a place may be had, None where it is worth asking now."""
        return _AGAIN_S if now_s < self._again_s and not self.has_place() else None

    def ask(self, _amount: int) -> asyncio.Task[None]:
        """Hold one more place, for one who waits and all who do; `asked` follows when the wait is over."""
        self._pending += 1
        return self._holding or self.hold()

    def asked(self, _amount: int) -> None:
        self._pending -= 1

    def hold(self) -> asyncio.Task[None]:
        """Hold what is in use and what is waited for, for another while."""
        self._holding = asyncio.ensure_future(self._hold())
        return self._holding

    async def renew(self) -> None:
        """Hold on to what is held, if anything is."""
        if self._holding is None and (self._held or self.used):
            await asyncio.wait({self.hold()})

    async def _hold(self) -> None:
        await asyncio.sleep(0)  # all who come in this turn of the loop are held for at once
        sent_s = self._clock()
        wanted = self.used + self._pending
        most = min(wanted + self.limit // _PARTS, max(self.limit, self.used))
        # What is let go of is let go of before anybody hears: whether the answer comes or not, it may be another's.
        self._held = min(self._held, most)
        try:
            held, held_s = await self._source(self.limit, self.used, most)
        except StackError as error:
            self._hear(error)
            self._share = max(self.limit // self._sharers, min(self.limit, 1))
            if self.used >= self._share:
                self._again_s = sent_s + _AGAIN_S
        else:
            self._hear(None)
            self._share = 0
            self._held = held
            self._held_until_s = sent_s + held_s
            if held < self.used + self._pending:
                self._again_s = sent_s + _AGAIN_S
        finally:
            self._holding = None

    def _let_go(self) -> None:
        self._lingering = False
        spare = self.limit // _PARTS
        if self._holding is None and self._held > self.used + spare:
            self.hold()
