"""A client that can be replaced while it is used: who asks now is served by the new one, who has asked by the old."""

from __future__ import annotations

import asyncio
from typing import Generic, Protocol, TypeVar


class Closes(Protocol):
    """What has connections."""

    async def close(self) -> None: ...


Client = TypeVar("Client", bound=Closes)


class Swap(Generic[Client]):
    """`now` is the client to ask."""

    def __init__(self, client: Client) -> None:
        self.now = client
        self._ending: dict[asyncio.Task[None], Client] = {}

    def put(self, client: Client, ends_s: float) -> None:
        """Let `client` be asked from now on; the one before has `ends_s` seconds for what it was asked."""
        before, self.now = self.now, client
        ending = asyncio.create_task(_end(before, ends_s))
        self._ending[ending] = before
        ending.add_done_callback(self._ending.pop)

    async def close(self) -> None:
        """Close the client, and those before it at once."""
        for task, client in list(self._ending.items()):
            task.cancel()
            await asyncio.wait({task})
            if task.cancelled():  # it may not even have begun
                await client.close()
        await self.now.close()


async def _end(client: Closes, after_s: float) -> None:
    await asyncio.sleep(after_s)
    await client.close()
