"""Whether the models' servers are healthy: each is asked its /health."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

import aiohttp

from reference_stack.schemas.configuration.api_gateway import ApiGatewaySettings
from reference_stack.services.infrastructure.api_gateway.backend import Backend, backends_of

_HEALTH_REMEMBERED_S = 1.0


class Upstreams:
    """Open between `start` and `close`."""

    def __init__(self, settings: ApiGatewaySettings) -> None:
        self.by_model = {name: backends_of(each) for name, each in settings.upstreams.items()}
        self._health_s = settings.health_s
        self._session: aiohttp.ClientSession | None = None
        self._found: tuple[Mapping[str, str], float] = ({}, float("-inf"))

    async def start(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True),
            timeout=aiohttp.ClientTimeout(total=self._health_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent",),
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    @property
    def _open(self) -> aiohttp.ClientSession:
        assert self._session is not None, "start() comes first"  # noqa: S101 - a mistake of ours, not of a caller
        return self._session

    async def health(self) -> Mapping[str, str]:
        """Return by model "" or why it does not serve; asked at most once a second, whoever wants to know."""
        found, at = self._found
        if time.monotonic() - at < _HEALTH_REMEMBERED_S:
            return found
        names = list(self.by_model)
        answers = await asyncio.gather(*(self._ask_all(self.by_model[name]) for name in names))
        self._found = (dict(zip(names, answers, strict=True)), time.monotonic())
        return self._found[0]

    async def _ask_all(self, backends: Sequence[Backend]) -> str:
        """Return "" when one of them serves, else why the first does not."""
        problems = await asyncio.gather(*map(self._ask, backends))
        if "" in problems:
            return ""
        return problems[0] if len(problems) == 1 else f"none of its {len(problems)} servers: {problems[0]}"

    async def _ask(self, backend: Backend) -> str:
        try:
            async with self._open.get(backend.health, allow_redirects=False) as reply:
                return "" if reply.status == 200 else f"its /health answers {reply.status}"
        except TimeoutError:
            return f"its /health does not answer within {self._health_s:g} s"
        except (aiohttp.ClientError, OSError):
            return "it cannot be reached"
