"""The vector database as the gateway is told of it, and when it is left alone."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from reference_stack.schemas.configuration.retrieval import RetrievalSettings
from reference_stack.schemas.configuration.vector_database import VectorDatabaseSettings
from reference_stack.services.infrastructure.api_gateway.refusal import Refusal, bad_upstream
from reference_stack.services.infrastructure.api_gateway.routing.breaker import Breaker
from reference_stack.services.integration.vector_database.port import Refused, Unavailable, VectorDatabase

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")


def vectors_at(settings: RetrievalSettings) -> VectorDatabase:
    """Return the vector database that `settings` name; it connects when first asked, and must not be forked after."""
    from reference_stack.services.integration.vector_database.client import connect

    said = settings.model_dump(include=set(VectorDatabaseSettings.model_fields) - {"collections", "folder"})
    return connect(VectorDatabaseSettings.model_validate(said))


class Vectors:
    """Asks the store while it answers, so many at once and no more; what goes wrong becomes a Refusal.

    Raises Refusal 503 with Retry-After: at once while the store is out or full, by the client's deadline when it hangs;
    and 502 when it refuses what the gateway asks, which is no client's fault.
    """

    def __init__(self, settings: RetrievalSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._breaker = Breaker(failures=settings.failures, of=settings.failures, open_s=settings.open_s, trials=1)
        self._retry_after_s = math.ceil(settings.open_s)
        self._free = settings.in_flight
        self._clock = clock

    async def ask(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        trial = not self._breaker.closed
        if trial and not (self._breaker.half_open(self._clock()) and self._breaker.trial_free):
            raise self._out()
        if not self._free:
            raise Refusal(503, "overloaded", "as many searches run as may at once", retry_after_s=1)
        self._free -= 1
        if trial:
            self._breaker.begin_trial()
        try:
            return await self._asked(call, trial=trial)
        finally:
            self._free += 1
            if trial:
                self._breaker.end_trial()

    async def _asked(self, call: Callable[[], Awaitable[Answer]], *, trial: bool) -> Answer:
        try:
            answer = await call()
        except Unavailable as error:
            self._judge(error, trial=trial)
            raise self._out() from None
        except Refused as error:
            self._judge(None, trial=trial)
            log.warning("the vector store refuses a search: %s", error.message)
            raise bad_upstream("the vector store did not take the search") from None
        self._judge(None, trial=trial)
        return answer

    def _judge(self, error: Unavailable | None, *, trial: bool) -> None:
        closed = self._breaker.closed
        self._breaker.judge(failed=error is not None, trial=trial, now_s=self._clock())
        if closed and not self._breaker.closed and error is not None:
            log.warning("searches are refused for now: %s", error.message)
        elif self._breaker.closed and not closed:
            log.info("searches are answered again")

    def _out(self) -> Refusal:
        message = "the vector store cannot be asked at the moment"
        return Refusal(503, "retrieval_unavailable", message, retry_after_s=self._retry_after_s)
