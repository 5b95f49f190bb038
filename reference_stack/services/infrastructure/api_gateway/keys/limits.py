"""The limits of keys, kept over all workers by leases: no request asks anybody while this process has some in hand."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from reference_stack.errors import StackError
from reference_stack.schemas.api.keys import UNLIMITED, ApiKey
from reference_stack.services.infrastructure.api_gateway.keys.book import Book
from reference_stack.services.infrastructure.api_gateway.keys.lease import Lease, Source
from reference_stack.services.infrastructure.api_gateway.keys.slots import Hold, Slots
from reference_stack.services.infrastructure.api_gateway.plain import Unlimited
from reference_stack.services.infrastructure.api_gateway.ports import Grant
from reference_stack.services.integration.cache.port import Ask, Cache, Draw
from reference_stack.services.integration.database.port import SpendStore

log = logging.getLogger(__name__)

_MINUTE_S = 60.0
# A key that rests gives what it has in hand of a minute to the other workers, and is forgotten in the end.
_RESTING_S = 1.0
_IDLE_S = 70.0
_MOST_RESTING = 2000
_TIDIED_S = 1.0
_TIDIED, _AT_ONCE = 256, 16
# Places are renewed after this part of their time, so that a process may be late twice.
_RENEWED = 0.3
_FREE = Unlimited()


class _Alone(StackError):
    """There is nobody to share with."""


@contextmanager
def _all_of_it_out() -> Iterator[None]:
    """Whatever goes wrong in a client, limits take it as one thing: it is out."""
    try:
        yield
    except StackError:
        raise
    except Exception as error:  # whatever a client raises, as the docstring has it; the cause stays
        raise StackError(type(error).__name__) from error


class LeasedLimits:
    """See ports.Limits. `sharers` processes share the limits: each allows its part of them while the cache is out.

    Without a cache each process allows its part, always. Budgets come from `spend` alone: while it is out, what this
    process has in hand can be spent and no more.
    """

    def __init__(
        self,
        cache: Cache | None,
        spend: SpendStore | None,
        *,
        sharers: int = 1,
        held_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """A process that dies gives its places for requests at the same time back after `held_s`."""
        self._cache = cache
        self._spend = spend
        self._sharers = sharers
        self._held_s = held_s
        self._clock = clock
        self._holder = secrets.token_hex(8)
        self._books: dict[str, Book] = {}
        self._out = {"cache": False, "budgets": False}

    def take_at_once(self, key: ApiKey, estimated_tokens: int) -> Grant | None:
        limits = key.limits
        if limits is UNLIMITED:
            return _FREE
        book = self._books.get(key.id)
        if book is None or book.terms is not limits:
            book = self._open(key)
        return book.take_at_once(estimated_tokens)

    async def take(self, key: ApiKey, estimated_tokens: int) -> Grant:
        return self.take_at_once(key, estimated_tokens) or await self._books[key.id].take(estimated_tokens)

    async def run(self) -> None:
        """Hold on to places, pay debts and forget idle keys, until cancelled."""
        await asyncio.gather(self._again(self.renew, self._held_s * _RENEWED), self._again(self.tidy, _TIDIED_S))

    async def renew(self) -> None:
        """Hold on to the places that are held, a few keys at a time: more at once would wait for each other."""
        slots = [book.slots for book in self._books.values() if book.slots is not None]
        for first in range(0, len(slots), _AT_ONCE):
            await asyncio.gather(*(each.renew() for each in slots[first : first + _AT_ONCE]))

    async def tidy(self) -> None:
        """Pay what is owed, give back what resting keys have in hand, and forget them.

        Of few keys budgets stay a while, and what was drawn of the last minute stays known.
        """
        many, now_s = len(self._books) > _MOST_RESTING, self._clock()
        books = [(name, book) for name, book in self._books.items() if many or not book.rests(now_s)]
        for first in range(0, len(books), _TIDIED):
            await asyncio.gather(*(self._tidy(name, book, many=many) for name, book in books[first : first + _TIDIED]))

    async def _tidy(self, name: str, book: Book, *, many: bool) -> None:
        rests_s = self._clock() - book.used_s
        for lease in book.leases:
            await lease.tidy(close=rests_s > (_IDLE_S if lease is book.budget and not many else _RESTING_S))
        now_s = self._clock()
        if now_s - book.used_s <= _RESTING_S or not book.idle():
            return
        if now_s < book.counts_s and not many:
            book.resting = now_s, book.counts_s
        elif self._books.get(name) is book:
            del self._books[name]

    async def _again(self, work: Callable[[], Awaitable[None]], every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            await work()

    async def close(self) -> None:
        """Give back what is in hand."""
        for book in list(self._books.values()):
            for lease in book.leases:
                await lease.tidy(close=True)
            if book.slots is not None:
                await book.slots.hold()
        self._books.clear()

    def _open(self, key: ApiKey) -> Book:
        """Return the key's book, changed to its limits where they are others than before."""
        limits = key.limits
        book = self._books.get(key.id)
        if book is None:
            book = self._books[key.id] = Book(self._clock)
        before, book.terms = book.terms, limits
        if before == limits:
            return book
        per_minute, each = limits.requests_per_minute, limits.tokens_per_minute
        book.requests = self._leased(book.requests, per_minute, self._window(f"requests:{key.id}", per_minute))
        book.tokens = self._leased(book.tokens, each, self._window(f"tokens:{key.id}", each))
        budget = limits.budget_tokens
        book.budget = self._leased(book.budget, budget, self._budget(key.id, budget), paid=True)
        if limits.concurrent is None:
            book.slots = None
        elif book.slots is None:
            hold = self._places(key.id)
            book.slots = Slots(limits.concurrent, hold, self._sharers, self._clock, self._hear_cache)
        else:
            book.slots.change(limits.concurrent)
        return book

    def _leased(self, lease: Lease | None, limit: int | None, source: Source, *, paid: bool = False) -> Lease | None:
        if limit is None:
            return None
        if lease is not None:
            lease.change(limit, source)
            return lease
        sharers, hear = (0, self._hear_budget) if paid else (self._sharers, self._hear_cache)
        return Lease(limit, source, sharers, self._clock, hear)

    def _window(self, name: str, limit: int | None) -> Source:
        async def draw(ask: Ask) -> Draw:
            if self._cache is None:
                raise _Alone("there is no cache")
            with _all_of_it_out():
                return await self._cache.draw(name, limit or 0, _MINUTE_S, ask)

        return draw

    def _places(self, name: str) -> Hold:
        async def hold(limit: int, least: int, most: int) -> tuple[int, float]:
            if self._cache is None:
                raise _Alone("there is no cache")
            with _all_of_it_out():
                held = await self._cache.hold(name, self._holder, limit, least, most, self._held_s)
            return held, self._held_s

        return hold

    def _budget(self, key_id: str, budget: int | None) -> Source:
        async def draw(ask: Ask) -> Draw:
            if self._spend is None:
                raise StackError("there is no database")
            with _all_of_it_out():
                owed = ask.owed - sum(amount for _, amount in ask.back)
                drawn = await self._spend.draw(key_id, budget or 0, owed, ask.least, ask.want, ask.most)
            # It has no window that ends: only its owner can help, so it is of no use to come back soon.
            return Draw(drawn.given, drawn.left, math.inf, 0, _MINUTE_S)

        return draw

    def _hear_cache(self, error: StackError | None) -> None:
        if not isinstance(error, _Alone):
            self._hear("cache", error, "limits are counted in this process alone", "limits are shared again")

    def _hear_budget(self, error: StackError | None) -> None:
        self._hear("budgets", error, "budgets cannot be drawn on", "budgets can be drawn on again")

    def _hear(self, what: str, error: StackError | None, lost: str, back: str) -> None:
        out = error is not None
        if out is self._out[what]:
            return
        self._out[what] = out
        if error is not None:
            log.warning("%s: %s", lost, error.message)
        else:
            log.info(back)
