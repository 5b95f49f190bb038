"""How often something is done again; who changes it does not wait for the old time to end."""

from __future__ import annotations

import asyncio
import contextlib


class Pace:
    """Every `every_s` seconds; 0: never."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._changed = asyncio.Event()

    def change(self, every_s: float) -> None:
        """From now on every `every_s` seconds; a wait that is under way begins anew."""
        self._every_s = every_s
        self._changed.set()

    async def wait(self) -> None:
        """Wait until it is time."""
        while True:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every_s or None):
                    await self._changed.wait()
                    continue
            return
