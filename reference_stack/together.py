"""Questions that many ask at about the same time, asked as one: a round trip costs more than what it carries."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class Together(Generic[Question, Answer]):
    """Gathers the questions of a turn of the event loop, and those that come while `at_once` round trips are under way.

    `ask` is given at most `most` questions and returns their answers in the same order; what it raises everybody gets
    who asked in that trip.
    """

    def __init__(
        self,
        ask: Callable[[Sequence[Question]], Awaitable[Sequence[Answer]]],
        *,
        most: int = 256,
        at_once: int = 2,
    ) -> None:
        self._ask = ask
        self._most = most
        self._at_once = at_once
        self._waiting: list[tuple[Question, asyncio.Future[Answer]]] = []
        self._trips: set[asyncio.Task[None]] = set()

    async def __call__(self, question: Question) -> Answer:
        """Return the answer to `question`."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, answer))
        if len(self._trips) < self._at_once:
            trip = asyncio.ensure_future(self._go())
            self._trips.add(trip)
            trip.add_done_callback(self._trips.discard)
        return await answer

    async def _go(self) -> None:
        try:
            await asyncio.sleep(0)  # all who ask in this turn of the loop
            while self._waiting:
                asked, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
                await self._trip([each for each in asked if not each[1].done()])  # who was cancelled asks no more
        except asyncio.CancelledError:
            for _, answer in self._waiting:
                answer.cancel()
            raise

    async def _trip(self, asked: Sequence[tuple[Question, asyncio.Future[Answer]]]) -> None:
        if not asked:
            return
        try:
            answers = await self._ask([question for question, _ in asked])
        except asyncio.CancelledError:
            for _, answer in asked:
                answer.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is for those who asked
            for _, answer in asked:
                if not answer.done():
                    answer.set_exception(error)
        else:
            for (_, answer), found in zip(asked, answers, strict=True):
                if not answer.done():
                    answer.set_result(found)
