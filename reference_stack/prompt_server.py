"""uvicorn without the pauses of its end: it stops when it is told to, not at its next look."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import uvicorn

_LOOK_S = 0.005


class PromptServer(uvicorn.Server):
    """Ends as soon as `should_exit` is set, and waits then for nothing but requests that are open."""

    tick_s = 0.1  # uvicorn's own: its date header is ten of them old at most
    _exits: asyncio.Event | None = None
    _loop: asyncio.AbstractEventLoop | None = None
    _should_exit = False

    @property
    def should_exit(self) -> bool:
        return self._should_exit

    @should_exit.setter
    def should_exit(self, value: bool) -> None:
        self._should_exit = value
        if value and self._loop is not None and self._exits is not None:
            # uvicorn sets it in a signal handler, which does not wake a loop that sleeps.
            self._loop.call_soon_threadsafe(self._exits.set)

    async def main_loop(self) -> None:
        """Call `on_tick` every `tick_s`, and at once when told to end."""
        self._exits, self._loop = asyncio.Event(), asyncio.get_running_loop()
        counter = 0
        try:
            while not await self.on_tick(counter):
                counter = (counter + 1) % 864_000
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self.tick_s):
                        await self._exits.wait()
        finally:
            self._loop = None  # a signal that comes later may find it closed

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close what listens and what is idle, let open requests end in their time, then close the application."""
        for each in (*self.servers, *(sockets or ())):
            each.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        try:
            async with asyncio.timeout(self.config.timeout_graceful_shutdown):
                while self._open and not self.force_exit:  # noqa: ASYNC110 - uvicorn has no event for it
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            for task in self.server_state.tasks:
                task.cancel()
        if not self.force_exit:
            await self.lifespan.shutdown()

    @property
    def _open(self) -> bool:
        return bool(self.server_state.connections or self.server_state.tasks)
