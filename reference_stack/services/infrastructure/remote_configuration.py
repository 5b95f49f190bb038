"""The configuration that another configuration service has, over HTTP."""

from __future__ import annotations

import aiohttp
import msgspec

from reference_stack.schemas.configuration.problem import Problem
from reference_stack.services.infrastructure.settled import Setting, Settled, Unavailable

_AWAY = "the configuration service cannot be asked"


class _Page(msgspec.Struct):
    version: str
    loaded_at_s: float
    services: dict[str, dict[str, Setting]]
    problems: tuple[Problem, ...]


class RemoteConfiguration:
    """See settled.Configuration: another configuration service has it. While that one is away, what it said last holds.

    Secrets do not travel: it shows them as stars, and so does this.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        self._url = url
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None
        self._last: Settled | None = None
        self.problems: tuple[Problem, ...] = ()

    async def settled(self) -> Settled:
        if self._last is None:
            await self._take()
        if self._last is None:
            raise Unavailable(self.problems[0].problem)
        return self._last

    async def reload(self) -> bool:
        """Make the other one read everything again, and take what is good there."""
        await self._take("/reload")
        return not self.problems

    async def refresh(self) -> bool | None:
        before = (self._last and self._last.version, self.problems)
        await self._take()
        same = before == (self._last and self._last.version, self.problems)
        return None if same else not self.problems

    async def _take(self, told: str = "") -> None:
        """Take what the other one has, after it was `told` something."""
        if self._session is None:  # it belongs to the loop that runs, which is not there when this is made
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        try:
            if told:
                await (await self._session.post(f"{self._url}{told}")).read()
            async with self._session.get(f"{self._url}/configuration", raise_for_status=True) as answer:
                page = msgspec.json.decode(await answer.read(), type=_Page)
        except (TimeoutError, OSError, aiohttp.ClientError, msgspec.MsgspecError) as error:
            self.problems = (Problem(self._url, "", f"{_AWAY}: {type(error).__name__}"),)
            return
        self._last = Settled(page.version, page.loaded_at_s, page.services)
        self.problems = page.problems

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
