"""Asks servers how they are: their /health, and a request of one token where only an answer proves anything."""

from __future__ import annotations

import json
from types import TracebackType
from typing import Protocol, Self

import aiohttp

from reference_stack.services.infrastructure.api_gateway.backend import Backend


class Prober(Protocol):
    """`healthy` is False for a server that cannot be reached or calls itself ill; `answer` is a status, or None."""

    async def healthy(self, backend: Backend) -> bool: ...
    async def answer(self, backend: Backend, model: str) -> int | None: ...


class HttpProber:
    """Asks over a session of its own, so that a check never waits for a place among requests."""

    def __init__(self, *, health_s: float, answer_s: float) -> None:
        self._health = aiohttp.ClientTimeout(total=health_s)
        self._answer = aiohttp.ClientTimeout(total=answer_s)
        self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), skip_auto_headers=("User-Agent",))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def healthy(self, backend: Backend) -> bool:
        """Ask its /health; a server without that route answers 404, and is there."""
        try:
            async with self._session.get(backend.health, timeout=self._health, allow_redirects=False) as reply:
                return reply.status < 500
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            return False

    async def answer(self, backend: Backend, model: str) -> int | None:
        """Ask for one token, or one vector; None when nothing comes."""
        body = json.dumps({"model": model, **backend.asks})
        try:
            async with self._session.post(
                backend.question,
                data=body,
                headers={**backend.headers, "X-Request-Id": "gateway-probe"},
                timeout=self._answer,
                allow_redirects=False,
            ) as reply:
                await reply.read()
                return reply.status
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            return None
