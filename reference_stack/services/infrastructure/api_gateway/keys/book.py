"""What one key has in this process: a lease on each of its limits, and what one request took of them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

from reference_stack.schemas.api.keys import UNLIMITED
from reference_stack.services.infrastructure.api_gateway.head import pairs_in
from reference_stack.services.infrastructure.api_gateway.keys.lease import Clock, Lease
from reference_stack.services.infrastructure.api_gateway.keys.slots import Slots
from reference_stack.services.infrastructure.api_gateway.ports import in_task
from reference_stack.services.infrastructure.api_gateway.refusal import Refusal

_REQUESTS, _TOKENS = (
    b"x-ratelimit-limit-%b: %%d\r\nx-ratelimit-remaining-%b: %%d\r\nx-ratelimit-reset-%b: %%ds\r\n" % (name, name, name)
    for name in (b"requests", b"tokens")
)
# Others may be quicker whenever something was drawn; after so many draws in vain it is told to come back.
_MOST_DRAWS = 20


class Book:
    """None is no limit. `open` requests are under way; `terms` are what all of it was made of.

    It was last used at `used_s`; `resting` is from when until when there is nothing to do for it if it is not used.
    """

    __slots__ = ("_clock", "budget", "open", "requests", "resting", "slots", "terms", "tokens", "used_s")

    def __init__(self, clock: Clock) -> None:
        self.terms = UNLIMITED
        self.requests: Lease | None = None
        self.tokens: Lease | None = None
        self.budget: Lease | None = None
        self.slots: Slots | None = None
        self.open = 0
        self.used_s = clock()
        self.resting = (-math.inf, -math.inf)
        self._clock = clock

    @property
    def leases(self) -> list[Lease]:
        return [lease for lease in (self.requests, self.tokens, self.budget) if lease is not None]

    @property
    def counts_s(self) -> float:
        """So long it may have to tell a cache that loses its data what was drawn of a minute."""
        return max((lease.counts_s for lease in (self.requests, self.tokens) if lease is not None), default=-math.inf)

    def rests(self, now_s: float) -> bool:
        """Whether there is nothing to do for it."""
        since_s, until_s = self.resting
        return self.used_s < since_s and now_s < until_s

    def idle(self) -> bool:
        """Whether nothing is in hand, under way or owed."""
        now_s = self._clock()
        rests = self.slots is None or self.slots.idle
        return not self.open and rests and all(lease.idle(now_s) for lease in self.leases)

    def take_at_once(self, tokens: int) -> Taken | None:
        """Take one request of `tokens` where all of it is in hand."""
        self.used_s = now_s = self._clock()
        slots, requests, leased, budget = self.slots, self.requests, self.tokens, self.budget
        if (
            (slots is not None and not slots.has_place())
            or (requests is not None and not requests.has(1, now_s))
            or (leased is not None and not leased.has(tokens, now_s))
            or (budget is not None and not budget.has(tokens, now_s))
        ):
            return None
        if slots is not None:
            slots.take()
        if requests is not None:
            requests.take(1, now_s)
        part = 0 if leased is None else leased.take(tokens, now_s)
        if budget is not None:
            budget.take(tokens, now_s)
        self.open += 1
        return Taken(self, tokens, part, now_s)

    async def take(self, tokens: int) -> Taken:
        """Take one request of `tokens`, and wait for what is not in hand. Raises Refusal 429, or 503."""
        await in_task()
        for _ in range(_MOST_DRAWS):
            taken = self.take_at_once(tokens)
            if taken is not None:
                return taken
            await self._draw(tokens)
        limit, _ = self._short(tokens, self._clock())[0]
        raise self._refusal(limit, tokens, 1.0)

    async def _draw(self, tokens: int) -> None:
        """Draw on all limits that are short, at the same time. Raises Refusal where one has no room."""
        now_s = self._clock()
        short = self._short(tokens, now_s)
        self._check(short, tokens, now_s)
        drawing = [limit.ask(amount) for limit, amount in short]
        try:
            await asyncio.wait(drawing)
        finally:
            for limit, amount in short:
                limit.asked(amount)
        self._check(short, tokens, self._clock())

    def _check(self, short: Sequence[tuple[Lease | Slots, int]], tokens: int, now_s: float) -> None:
        for limit, amount in short:
            retry_s = limit.refused(amount, now_s)
            if retry_s is not None:
                raise self._refusal(limit, tokens, retry_s)

    def _short(self, tokens: int, now_s: float) -> list[tuple[Lease | Slots, int]]:
        """Return the limits that have too little in hand, and how much is needed of them."""
        needed = ((self.slots, 1), (self.requests, 1), (self.tokens, tokens), (self.budget, tokens))
        return [(limit, amount) for limit, amount in needed if limit is not None and not limit.has(amount, now_s)]

    def lines(self, now_s: float) -> bytes:
        """Return OpenAI's headers; what remains is in hand, or was left to all when this process last drew."""
        requests, tokens = self.requests, self.tokens
        return (b"" if requests is None else _lines(_REQUESTS, requests, now_s)) + (
            b"" if tokens is None else _lines(_TOKENS, tokens, now_s)
        )

    def _refusal(self, short: Lease | Slots, tokens: int, retry_s: float) -> Refusal:
        wait_s = max(math.ceil(retry_s), 1)
        status, code = 429, "rate_limit_exceeded"
        if isinstance(short, Slots):
            words = f"this key may have {short.limit} requests under way at a time"
        elif short is self.requests:
            words = f"this key may make {short.limit} requests a minute"
        elif short is self.tokens and tokens > short.limit:
            words = f"the request may come to more tokens than this key has in a minute, {short.limit}: ask for fewer"
        elif short is self.tokens:
            words = f"this key may use {short.limit} tokens a minute"
        elif short.out:
            status, code, words = 503, "budget_unavailable", "the key's budget cannot be checked at the moment"
            wait_s = 1
        else:
            code, words = "insufficient_quota", f"this key's budget of {short.limit} tokens does not have so many left"
        return Refusal(status, code, words, retry_after_s=wait_s, more=pairs_in(self.lines(self._clock())))


class Taken:
    """See ports.Grant."""

    __slots__ = ("_book", "_budget", "_estimate", "_leased", "_part", "_slots", "lines")

    def __init__(self, book: Book, estimate: int, part: int, now_s: float) -> None:
        # The key's limits may change before the request ends: what was taken goes back to where it came from.
        self._book, self._leased, self._budget, self._slots = book, book.tokens, book.budget, book.slots
        self._estimate = estimate
        self._part = part
        self.lines = book.lines(now_s)

    def settle(self, tokens: int) -> None:
        self._book.open -= 1
        if self._slots is not None:
            self._slots.release()
        if self._leased is not None:
            self._leased.give(self._estimate - tokens, self._part)
        if self._budget is not None:
            self._budget.give(self._estimate - tokens, self._budget.part)


def _lines(form: bytes, lease: Lease, now_s: float) -> bytes:
    whole_s = lease.whole_s - now_s
    return form % (lease.limit, lease.room + lease.left, math.ceil(whole_s) if 0 < whole_s < math.inf else 0)
