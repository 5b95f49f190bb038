"""What one key has in this process: a lease on each of its limits, and what one request took of them."""

from __future__ import annotations

import math
from collections.abc import Iterator

from reference_stack.services.infrastructure.api_gateway.keys.lease import Clock, Lease, NoRoom
from reference_stack.services.infrastructure.api_gateway.keys.slots import Slots
from reference_stack.services.infrastructure.api_gateway.ports import in_task
from reference_stack.services.infrastructure.api_gateway.refusal import Refusal

Header = tuple[bytes, bytes]

# Others may be quicker whenever something was drawn; after so many draws in vain it is told to come back.
_MOST_DRAWS = 20
# A budget has no window that ends: only its owner can help, so it is of no use to come back soon.
_SPENT_S = 60


class Book:
    """None is no limit."""

    __slots__ = ("_clock", "budget", "requests", "slots", "tokens", "used_s")

    def __init__(self, clock: Clock) -> None:
        self.requests: Lease | None = None
        self.tokens: Lease | None = None
        self.budget: Lease | None = None
        self.slots: Slots | None = None
        self.used_s = clock()
        self._clock = clock

    @property
    def leases(self) -> Iterator[Lease]:
        return (lease for lease in (self.requests, self.tokens, self.budget) if lease is not None)

    async def take(self, tokens: int) -> Taken:
        """Take one request of `tokens`, at once where all of it is in hand. Raises Refusal 429, or 503."""
        self.used_s = self._clock()
        draws = 0
        while (short := self._short(tokens)) is not None:
            await in_task()
            try:
                await (short.refill() if isinstance(short, Slots) else short.refill(self._amount(short, tokens)))
            except NoRoom as none:
                raise self._refusal(short, tokens, none.retry_s) from None
            draws += 1
            if draws == _MOST_DRAWS:
                raise self._refusal(short, tokens, 1.0)
        return self._taken(tokens)

    def _short(self, tokens: int) -> Lease | Slots | None:
        """Return the first limit that has too little in hand; nothing is taken before all have enough."""
        if self.slots is not None and not self.slots.has_place():
            return self.slots
        if self.requests is not None and not self.requests.has(1):
            return self.requests
        if self.tokens is not None and not self.tokens.has(tokens):
            return self.tokens
        if self.budget is not None and not self.budget.has(tokens):
            return self.budget
        return None

    def _amount(self, lease: Lease, tokens: int) -> int:
        return 1 if lease is self.requests else tokens

    def _taken(self, tokens: int) -> Taken:
        if self.slots is not None:
            self.slots.take()
        if self.requests is not None:
            self.requests.take(1)
        window = 0 if self.tokens is None else self.tokens.take(tokens)
        if self.budget is not None:
            self.budget.take(tokens)
        return Taken(self, tokens, window)

    def headers(self) -> list[Header]:
        """Return OpenAI's headers; what remains is in hand, or was left to all when this process last drew."""
        found: list[Header] = []
        for name, lease in ((b"requests", self.requests), (b"tokens", self.tokens)):
            if lease is None:
                continue
            reset_s = max(lease.until_s - self._clock(), 0.0)
            found += [
                (b"x-ratelimit-limit-" + name, b"%d" % lease.limit),
                (b"x-ratelimit-remaining-" + name, b"%d" % max(lease.room + lease.left, 0)),
                (b"x-ratelimit-reset-" + name, b"%.3fs" % (reset_s if math.isfinite(reset_s) else 0.0)),
            ]
        return found

    def _refusal(self, short: Lease | Slots, tokens: int, retry_s: float) -> Refusal:
        wait_s = max(math.ceil(min(retry_s, _SPENT_S)), 1)
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
        return Refusal(status, code, words, retry_after_s=wait_s, more=self.headers())


class Taken:
    """See ports.Grant."""

    __slots__ = ("_book", "_budget", "_estimate", "_leased", "_slots", "_window", "headers")

    def __init__(self, book: Book, estimate: int, window: int) -> None:
        # The key's limits may change before the request ends: what was taken goes back to where it came from.
        self._leased, self._budget, self._slots = book.tokens, book.budget, book.slots
        self._estimate = estimate
        self._window = window
        self.headers = book.headers()

    def settle(self, tokens: int) -> None:
        if self._slots is not None:
            self._slots.release()
        if self._leased is not None:
            self._leased.give(self._estimate - tokens, self._window)
        if self._budget is not None:
            self._budget.give(self._estimate - tokens, self._budget.window)
