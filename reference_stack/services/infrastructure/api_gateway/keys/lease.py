"""A share of a limit that this process drew and hands out without asking anybody."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable

from reference_stack.errors import StackError
from reference_stack.services.infrastructure.api_gateway.keys.drawn import Drawn
from reference_stack.services.integration.cache.port import Ask, Draw
from reference_stack.services.integration.cache.window import Window

# A process draws so small a part of a limit at once that what lies about unused with the others does not count.
_PARTS = 100
# Of a small limit more than that, or each request would be a draw: the source gives less as it runs out, and what rests
# is given back.
_FEW = 10
# A quarter of such a part is little: more is drawn ahead, but of limits so small that each draw is of one alone.
_AHEAD = 4 * _PARTS
# What others may give back is asked for again this often.
_AGAIN_S = 0.2
_WINDOW_S = 60.0

# Takes a share of one limit from where all processes draw. Raises StackError while that is out.
Source = Callable[[Ask], Awaitable[Draw]]
Clock = Callable[[], float]


class Lease:
    """`room` is what is in hand: it may be used until `until_s` on `clock`, and counts in `part` of the window.

    While the source is out this process allows itself 1/`sharers` of what was left of the limit when it last heard of
    it, and of the whole limit in any minute after; with `sharers` 0, nothing. `hear` learns of each draw whether the
    source was there, which is told then what was allowed without it.
    """

    __slots__ = (
        "_alone", "_assumed", "_back", "_clock", "_drawing", "_drawn", "_hear", "_heard_s", "_owed", "_pending",
        "_refused_s", "_retry_s", "_sharers", "_source", "counts_s", "left", "limit", "out", "part", "room", "until_s",
        "whole_s",
    )  # fmt: skip

    def __init__(
        self, limit: int, source: Source, sharers: int, clock: Clock, hear: Callable[[StackError | None], None]
    ) -> None:
        self.limit = limit
        self.room = 0
        self.left = limit
        self.out = False
        self.until_s = -math.inf
        self.part = 0  # below nought: one of this process's own window
        self.whole_s = -math.inf  # when all of the limit will be left again
        self._source = source
        self._sharers = sharers
        self._clock = clock
        self._hear = hear
        self._heard_s = -math.inf
        self._owed = 0
        self._back: dict[int, int] = {}
        self._drawn = Drawn()
        self.counts_s = -math.inf  # so long something of what was drawn may count
        self._pending = 0
        self._refused_s = self._retry_s = -math.inf
        self._alone: Window | None = None
        self._assumed = (0, 0)  # part and amount of what counts as used there because the source said so
        self._drawing: asyncio.Task[None] | None = None

    def has(self, amount: int, now_s: float) -> bool:
        """Whether `amount` is in hand."""
        if self.room and now_s >= self.until_s:
            self._lay_back()
        return self.room >= amount

    def take(self, amount: int, now_s: float) -> int:
        """Take what is in hand; draw more behind the taker's back when little is left. Return the part it counts in."""
        self.room -= amount
        low = self.room * _AHEAD < self.limit and self.limit >= _AHEAD
        if low and self._drawing is None and now_s >= self._refused_s:
            self._drawing = asyncio.ensure_future(self._run(0))
        return self.part

    def give(self, amount: int, part: int) -> None:
        """Give back what was taken of `part` and not used. Negative: so much was used beyond it."""
        if amount < 0:
            self._owed -= amount
        elif part == self.part:
            self.room += amount
        else:
            self._give_back(part, amount)
        settled = min(self.room, self._owed)
        self.room -= settled
        self._owed -= settled

    def change(self, limit: int, source: Source) -> None:
        """Go on with another limit; what was drawn of a higher one is given up."""
        if limit < self.limit:
            self._lay_back()
        self.limit, self._source = limit, source
        self._refused_s = -math.inf

    def refused(self, amount: int, now_s: float) -> float | None:
        """Return in how many seconds `amount` may be had, None where it is worth asking now."""
        if amount > self.limit:
            return max(self.whole_s - now_s, 0.0)
        if now_s < self._refused_s and self.room + self.left < amount:
            return max(self._retry_s - now_s, 0.0)
        return None

    def ask(self, amount: int) -> asyncio.Task[None]:
        """Draw for one who waits for `amount`, and for all who do; `asked` follows when the wait is over."""
        self._pending += amount
        if self._drawing is None:
            self._drawing = asyncio.ensure_future(self._run(amount))
        return self._drawing

    def asked(self, amount: int) -> None:
        self._pending -= amount

    def idle(self, now_s: float) -> bool:
        """Whether nothing would be lost with it."""
        alone = self._alone is not None and self._alone.used(_ms(now_s)) > 0
        return not (self.room or self._owed or self._back or self._drawing or self._pending or alone)

    async def tidy(self, *, close: bool = False) -> None:
        """Pay what is owed, and give back what is over or far more than will be needed; with `close`, all."""
        if close and self._drawing is not None:
            await asyncio.wait({self._drawing})
        if self._drawing is not None:
            return
        if close or self._clock() >= self.until_s:
            self._lay_back()
        elif self.room > 2 * self._most():
            self._give_back(self.part, self.room - 2 * self._most())
            self.room = 2 * self._most()
        if not self._back and not self._owed:
            return
        owed, back = self._handed_over()
        sent_s = self._clock()
        try:
            drawn = await self._source(Ask(1, 0, 0, owed, back))
        except StackError as error:
            self._hear(error)
            self._owed += owed
        else:
            self._note(drawn, sent_s, owed, back)

    def _most(self) -> int:
        return max(self.limit // _PARTS, min(self.limit // _FEW, _FEW), 1)

    def _lay_back(self) -> None:
        if self.room:
            self._give_back(self.part, self.room)
        self.room = 0

    def _give_back(self, part: int, amount: int) -> None:
        if part >= 0:
            self._back[part] = self._back.get(part, 0) + amount
        elif self._alone is not None:
            self._alone.back(-part, amount)

    def _handed_over(self) -> tuple[int, tuple[tuple[int, int], ...]]:
        """Return what is owed and what goes back, as no longer ours: told twice, the latter would be there twice."""
        owed, back = self._owed, tuple(self._back.items())
        self._owed, self._back = 0, {}
        return owed, back

    async def _run(self, amount: int) -> None:
        await asyncio.sleep(0)  # all who come in this turn of the loop are drawn for at once
        if self._pending and math.isfinite(self.until_s):
            self._lay_back()  # what is drawn counts in another part, and there is one part in hand
        least = max(amount - self.room, 1)
        want = max(self._pending - self.room, least if amount else 0)
        owed, back = self._handed_over()
        sent_s = self._clock()
        try:
            drawn = await self._source(Ask(least, want, max(self._most(), want), owed, back))
        except StackError as error:
            self._owed += owed
            self.out = True
            self._hear(error)
            drawn = self._draw_alone(Ask(least, want, max(self._most(), want)), sent_s)
        else:
            self._tell_of(drawn, sent_s)
            self._note(drawn, sent_s, owed, back)
        finally:
            self._drawing = None
        self._take_in(drawn, sent_s, least)

    def _tell_of(self, drawn: Draw, sent_s: float) -> None:
        """The source is there: it will be told of what was allowed without it."""
        self.out = False
        self._hear(None)
        self._heard_s, self.left = sent_s, drawn.left
        if self._alone is not None and self._sharers:
            if self.part < 0:
                self._lay_back()
            self._alone.back(*self._assumed)
            self._owed += self._alone.used(_ms(sent_s))
        self._alone = None

    def _note(self, drawn: Draw, sent_s: float, owed: int, back: Iterable[tuple[int, int]]) -> None:
        """What a source has forgotten is owed to it once more."""
        self._owed += self._drawn.note(drawn, owed, back)
        if drawn.born and (drawn.given or owed):
            self.counts_s = sent_s + drawn.lasts_s + _WINDOW_S

    def _take_in(self, drawn: Draw, sent_s: float, least: int) -> None:
        if drawn.part != self.part:
            self._lay_back()
            self.part = drawn.part
        self.room += drawn.given
        self.left = drawn.left
        self.until_s = sent_s + drawn.lasts_s
        self.whole_s = sent_s + drawn.whole_s
        if drawn.given < least:
            self._retry_s = sent_s + drawn.retry_s
            self._refused_s = min(sent_s + _AGAIN_S, self._retry_s)

    def _draw_alone(self, ask: Ask, now_s: float) -> Draw:
        """Allow this process its share of what was left, as long as that counts, then of any minute's limit."""
        if not self._sharers:
            return Draw(0, self.left, self.until_s - now_s, self.part, _AGAIN_S)
        share = max(self.limit // self._sharers, min(self.limit, 1))
        if self._alone is None:
            self._alone = Window(_ms(_WINDOW_S))
            if now_s < self._heard_s + _WINDOW_S:
                known = max(self.left // self._sharers, min(self.left, 1))
                assumed = max(share - known, 0)
                drawn = self._alone.draw(self.limit, Ask(1, 0, 0, assumed), _ms(self._heard_s))
                self._assumed = (drawn.part, assumed)
        drawn = self._alone.draw(share, ask, _ms(now_s))
        return Draw(drawn.given, drawn.left, drawn.lasts_s, -drawn.part, drawn.retry_s, drawn.whole_s)


def _ms(seconds: float) -> int:
    return math.floor(seconds * 1000)
