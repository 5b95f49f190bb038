"""The tokens of one request on their way from the engine to its client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from reference_stack.services.ai_models.request import Asked
from reference_stack.services.ai_models.sim_engine import Live
from reference_stack.services.ai_models.wire import Wire


class Answer:
    """Collects what the engine makes until the request's task takes it: one item a token, empty where none is sent."""

    def __init__(self, wire: Wire, asked: Asked, parsed: Callable[[bool], None] | None = None) -> None:
        """`parsed` is told of each look of a parser of tool calls whether it found one."""
        self._wire = wire
        self._parsed = parsed
        self._chat = asked.chat
        self._stream = asked.stream
        self._n = asked.n
        self._open = len(asked.choices)
        self._pending: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self.cached = 0  # prompt tokens found in the prefix cache
        self.gone = False

    def deliver(self, live: Live) -> None:
        """Take in the newest token of `live`."""
        if self._stream:
            event = self._wire.token(live.choice, live.delivered - 1)
            if live.delivered == 1 and self._chat:
                event = self._wire.role(live.choice) + event
            self._pending.append(event)
            if self._parsed is not None:
                self._parsed(self._wire.choices.calls_at(live.choice, live.delivered - 1))
        if live.complete:
            if self._parsed is not None and not self._stream:
                self._parsed(self._wire.choices.calls(live.choice))
            self._open -= 1
            if not live.choice % self._n:
                self.cached += live.cached
        if self._stream or not self._open:
            self._notify()

    def leave(self, _: object = None) -> None:
        """The client has gone."""
        self.gone = True
        self._notify()

    async def take(self) -> list[bytes]:
        """Wait for tokens and return them; none when there will be no more."""
        while not self._pending and self._open and not self.gone:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        events, self._pending = self._pending, []
        return events

    def _notify(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
