"""A listening socket whose end leaves nothing open: neither what was just accepted nor what nobody reads."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine
from typing import Any

_BACKLOG = 4096
# Within two turns of the loop a connection that was accepted is told to its protocol.
_TURNS = 3

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


class Listener:
    """Runs `talk` for each connection and closes the connection when `talk` ends, however it does.

    `asyncio.start_server` alone loses connections at the end: Python 3.11 forgets what it accepted in the turn of the
    loop in which the server is closed, a task that is cancelled before its first step closes nothing, and
    `Server.wait_closed` waits for no one. May be opened again after `close`.
    """

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._server: asyncio.Server | None = None

    async def open(self, sock: socket.socket | None = None, *, limit: int = 1 << 16) -> int:
        """Listen on `sock`, or on a free port of 127.0.0.1; return the port. `limit` bounds a reader (bytes)."""
        where: dict[str, Any] = {"host": "127.0.0.1", "port": 0} if sock is None else {"sock": sock}
        self._server = await asyncio.start_server(self._accept, limit=limit, backlog=_BACKLOG, **where)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening, cancel every talk, drop every connection, and return when all of them are closed."""
        if self._server is not None:
            server, self._server = self._server, None
            for sock in server.sockets:
                asyncio.get_running_loop().remove_reader(sock.fileno())
            for _ in range(_TURNS):
                await asyncio.sleep(0)
            server.close()  # not before: it would drop what was accepted without closing it
        ended = list(self._open.items())
        for task, writer in ended:
            writer.transport.abort()
            task.cancel()
        waits = [writer.wait_closed() for _, writer in ended]
        await asyncio.gather(*(task for task, _ in ended), *waits, return_exceptions=True)

    # No coroutine function: what is opened is known before anybody can cancel the task that is to close it.
    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._run(reader, writer))
        self._open[task] = writer
        task.add_done_callback(self._ended)

    async def _run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._talk(reader, writer)
        finally:
            await closed(writer)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._open.pop(task).transport.abort()  # closed already, unless the task never began or was cancelled twice
        if not task.cancelled() and (error := task.exception()) is not None:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a talk with a client failed", "exception": error, "task": task}
            )


async def closed(writer: asyncio.StreamWriter) -> None:
    """Close `writer` and return when what was written has left and its socket is closed."""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
