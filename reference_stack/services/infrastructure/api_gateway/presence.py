"""Notices that a client has gone while its request is being worked on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.types import Receive


class ClientGone(Exception):
    """The client closed its connection; nobody waits for an answer."""


@asynccontextmanager
async def while_present(receive: Receive) -> AsyncIterator[Callable[[], object]]:
    """Run the block while the client stays; when it leaves, cancel the block and raise ClientGone.

    The request's body must have been read: from then on `receive` has only the disconnect to tell. It tells it as well
    once an answer is complete, so call what the block is given before the last of the answer is sent.
    """
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - an async function runs in a task
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    watcher = asyncio.ensure_future(watch())
    try:
        yield watcher.cancel
    except asyncio.CancelledError:
        if gone and task.uncancel() == 0:
            raise ClientGone from None
        raise
    finally:
        watcher.cancel()
