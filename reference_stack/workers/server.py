"""uvicorn in one worker: how it tells that it serves, and how it ends without failing a request."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import uvicorn

from reference_stack.prompt_server import PromptServer

log = logging.getLogger(__name__)
_LOOK_S = 0.02
_LAST_WORDS_S = 1.0
_CLOSE = (b"connection", b"close")


@dataclass(frozen=True, slots=True)
class Ending:
    """How a worker ends: requests that are open may take `drain_s`, then they are cut; connections on which no request
    comes are closed after `idle_s`.
    """

    drain_s: float
    idle_s: float


class WorkerServer(PromptServer):
    """Ends on SIGTERM, in this order: it accepts no more and says so (`left`), answers what is open and tells each
    client to close, closes what stays idle, cuts what is left at its time (`cut`), and closes the application.

    Nothing is closed at once that a client may be about to use: a request that meets a closing connection is lost.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        ending: Ending,
        *,
        ready: Callable[[], None],
        left: Callable[[], None],
        cut: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._left = left
        self._ending = ending
        self._ready = ready
        self._cut = cut
        self._ends = False

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Hear SIGTERM alone, and twice as once: the parent and a service manager may both send it."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.leave)
        yield
        loop.remove_signal_handler(signal.SIGTERM)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def leave(self) -> None:
        """Accept no more, and end. May come before there is a listener, and again."""
        self._ends = self.should_exit = True
        for server in getattr(self, "servers", ()):
            server.close()
        self._left()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def on_tick(self, counter: int) -> bool:
        ends = await super().on_tick(counter)
        if self._ends and _CLOSE not in self.server_state.default_headers:
            self.server_state.default_headers = [*self.server_state.default_headers, _CLOSE]
        return ends

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.leave()
        for sock in sockets or []:
            sock.close()
        await self.on_tick(1)
        self._tell_open_ones()
        if not await self._ended(self._ending.drain_s):
            log.warning("%d requests are cut after %g s", len(self._busy()), self._ending.drain_s)
            self._cut()
            await self._ended(_LAST_WORDS_S)
        self._close_all()
        await self.lifespan.shutdown()

    def _tell_open_ones(self) -> None:
        """An answer that has not begun yet will say that the connection closes behind it."""
        for connection in self._busy():
            connection.shutdown()

    async def _ended(self, within_s: float) -> bool:
        """Wait until no request is open; return whether that was in time."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        # There is no event for "the last one ended" in uvicorn, which polls here as well.
        while loop.time() < began + within_s:
            busy = self._busy()
            idle_long = not self.server_state.connections or loop.time() > began + self._ending.idle_s
            if not busy and not self.server_state.tasks and idle_long:
                return True
            await asyncio.sleep(_LOOK_S)
        return False

    def _busy(self) -> list[Any]:
        return [each for each in self.server_state.connections if is_busy(each)]

    def _close_all(self) -> None:
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.close()
        for task in self.server_state.tasks:
            task.cancel()


def is_busy(connection: Any) -> bool:
    """Whether a request is open on a connection of uvicorn's, or its client has not taken all of an answer yet."""
    cycle, transport = getattr(connection, "cycle", None), getattr(connection, "transport", None)
    unsent = transport is not None and transport.get_write_buffer_size() > 0
    return unsent or (cycle is not None and not cycle.response_complete)


class SideServer(PromptServer):
    """A second server of the same process, which lives as long as the first one."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for sock in sockets or []:
            sock.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()


async def serve_all(main: WorkerServer, sock: socket.socket, sides: Sequence[tuple[SideServer, socket.socket]]) -> None:
    """Serve until `main` ends."""
    async with asyncio.TaskGroup() as group:
        for server, listener in sides:
            group.create_task(server.serve([listener]))
        try:
            await main.serve([sock])
        finally:
            for server, _ in sides:
                server.should_exit = True
