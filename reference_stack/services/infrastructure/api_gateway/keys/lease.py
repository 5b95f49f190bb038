"""A share of a limit that this process drew and hands out without asking anybody."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

from reference_stack.errors import StackError
from reference_stack.services.integration.cache.port import Ask, Draw

# A process draws so small a part of a limit at once that what lies about unused with the others does not count.
_PARTS = 100
# Of a small limit more than that, or each request would be a draw: the source gives less as it runs out, and what rests
# is given back.
_FEW = 10
# A quarter of such a part is little: more is drawn ahead, but of limits so small that each draw is of one alone.
_AHEAD = 4 * _PARTS
# What others may give back is asked for again this often.
_AGAIN_S = 0.2
_ALONE_WINDOW_S = 60.0

# Takes a share of one limit from where all processes draw. Raises StackError while that is out.
Source = Callable[[Ask], Awaitable[Draw]]
Clock = Callable[[], float]


class NoRoom(Exception):
    """Nothing is left of a limit; it may be worth asking again in `retry_s` seconds."""

    def __init__(self, retry_s: float) -> None:
        super().__init__(retry_s)
        self.retry_s = retry_s


class Lease:
    """`room` is what is in hand: it is over with its window, `until_s` on `clock`, which the draw's answer names.

    While the source is out this process allows itself 1/`sharers` of what was left of the limit when it last heard of
    it, and of the whole limit in each minute after; with `sharers` 0, nothing. `hear` learns of each draw whether the
    source was there.
    """

    __slots__ = (
        "_alone_s", "_clock", "_drawing", "_hear", "_owed", "_pending", "_refused_s", "_sharers", "_source",
        "left", "limit", "out", "room", "until_s", "window",
    )  # fmt: skip

    def __init__(
        self, limit: int, source: Source, sharers: int, clock: Clock, hear: Callable[[StackError | None], None]
    ) -> None:
        self.limit = limit
        self.room = 0
        self.left = limit
        self.out = False
        self.until_s = -math.inf
        self.window = 0
        self._source = source
        self._sharers = sharers
        self._clock = clock
        self._hear = hear
        self._owed = 0
        self._pending = 0
        self._refused_s = -math.inf
        self._alone_s = -math.inf
        self._drawing: asyncio.Task[None] | None = None

    def has(self, amount: int) -> bool:
        """Whether `amount` is in hand."""
        if self.room and self._clock() >= self.until_s:
            self.room = 0
        return self.room >= amount

    def take(self, amount: int) -> int:
        """Take what is in hand; draw more behind the taker's back when little is left. Return the window's name."""
        self.room -= amount
        low = self.room * _AHEAD < self.limit and self.limit >= _AHEAD
        if low and self._drawing is None and self._clock() >= self._refused_s:
            self._draw(0)
        return self.window

    def give(self, amount: int, window: int) -> None:
        """Give back what was taken in `window` and not used; where that is over it is lost. Negative: used beyond."""
        if amount < 0:
            self._owed -= amount
        elif window == self.window:
            self.room += amount
        settled = min(self.room, self._owed)
        self.room -= settled
        self._owed -= settled

    def change(self, limit: int, source: Source) -> None:
        """Go on with another limit; what was drawn of a higher one is given up."""
        if limit < self.limit:
            self.room = 0
        self.limit, self._source = limit, source
        self._refused_s = -math.inf

    async def refill(self, amount: int) -> None:
        """Draw until `amount` was in hand, for this caller and all who wait. Raises NoRoom."""
        now_s = self._clock()
        if amount > self.limit or (now_s < self._refused_s and self.room + self.left < amount):
            raise NoRoom(self._retry_s(now_s))
        self._pending += amount
        try:
            await asyncio.wait({self._drawing or self._draw(amount - self.room)})
        finally:
            self._pending -= amount
        now_s = self._clock()
        if not self.has(amount) and now_s < self._refused_s and self.room + self.left < amount:
            raise NoRoom(self._retry_s(now_s))

    async def tidy(self, *, close: bool = False) -> None:
        """Pay what is owed, and give back what is far more than will be needed; with `close`, all."""
        if close and self._drawing is not None:
            await asyncio.wait({self._drawing})
        spare = self.room if close else max(self.room - 2 * self._most(), 0)
        if self._clock() < self._alone_s:
            spare = 0  # nobody takes back what this process allowed itself, and it allows itself no more in this window
        if self._drawing is not None or (not spare and not self._owed) or self._clock() >= self.until_s:
            return
        self.room -= spare
        owed, self._owed = self._owed - spare, 0
        try:
            await self._source(Ask(1, 0, 0, owed, self.window))
        except StackError as error:
            self._hear(error)
            self._owed += max(owed, 0)

    def _retry_s(self, now_s: float) -> float:
        return max(self.until_s - now_s, 0.0)

    def _most(self) -> int:
        return max(self.limit // _PARTS, min(self.limit // _FEW, _FEW), 1)

    def _draw(self, least: int) -> asyncio.Task[None]:
        self._drawing = asyncio.ensure_future(self._run(least))
        return self._drawing

    async def _run(self, least: int) -> None:
        await asyncio.sleep(0)  # all who come in this turn of the loop are drawn for at once
        owed, self._owed = self._owed, 0
        most = self._most()
        want = max(self._pending - self.room, least)
        sent_s = self._clock()
        try:
            drawn = await self._source(Ask(max(least, 1), want, max(most, want), owed))
        except StackError as error:
            self._owed += owed
            self.out = True
            self._hear(error)
            self._draw_alone(want, sent_s)
        else:
            self.out = False
            self._hear(None)
            self._take_in(drawn, sent_s, least)
        finally:
            self._drawing = None

    def _take_in(self, drawn: Draw, sent_s: float, least: int) -> None:
        if drawn.window != self.window:
            self.room = 0
            self.window = drawn.window
        self._alone_s = -math.inf
        self.room += drawn.given
        self.left = drawn.left
        self.until_s = sent_s + drawn.ends_s
        if drawn.given < max(least, 1):
            self._refused_s = min(sent_s + _AGAIN_S, self.until_s)

    def _draw_alone(self, want: int, now_s: float) -> None:
        """Allow this process its share once a window, the one it knows of first."""
        if now_s >= self._alone_s:
            known = now_s < self.until_s
            whole = self.left if known else self.limit
            self.room = (self.room if known else 0) + (whole // self._sharers if self._sharers else 0)
            if self._sharers and whole and not self.room:
                self.room = 1
            self.until_s = self._alone_s = self.until_s if known else now_s + _ALONE_WINDOW_S
            self.left = 0
            if not known:
                self.window = -1
        if self.room < max(want, 1):
            self._refused_s = now_s + _AGAIN_S
