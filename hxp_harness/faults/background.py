"""An event loop in a thread of its own, so that plain tests can steer asyncio servers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Self, TypeVar

_WAIT_S = 10.0
T = TypeVar("T")


class Background:
    """Runs coroutines for callers without a loop. A context manager; `on_close` runs in the loop before it ends."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="hxp-faults", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_WAIT_S)
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of `work`, which runs in the loop; raise TimeoutError after 10 s."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_WAIT_S)

    def call(self, function: Callable[[], T]) -> T:
        """Return what `function` returns when it is called in the loop's thread."""

        async def inside() -> T:
            return function()

        return self.run(inside())

    @staticmethod
    async def _cancel_all() -> None:
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:  # one that is cancelled may start another
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
