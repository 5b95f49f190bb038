"""The configuration from files of this host, from another configuration service, or from memory."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping
from typing import Any

import httpx
import msgspec

from reference_stack.schemas.configuration.configuration import ConfigurationSettings
from reference_stack.schemas.configuration.layers import Effective, Layer, lay
from reference_stack.schemas.configuration.problem import InvalidConfiguration, Problem
from reference_stack.services.infrastructure.configured import Keeper, show
from reference_stack.services.infrastructure.settled import Configuration, Setting, Settled, Unavailable

_AWAY = "the configuration service cannot be asked"


def connect(settings: ConfigurationSettings, environ: Mapping[str, str]) -> Configuration:
    """Return the configuration that `settings` name. Raises InvalidConfiguration when files have no good one."""
    if settings.backend == "external":
        return RemoteConfiguration(str(settings.url).rstrip("/"), settings.timeout_s)
    return MemoryConfiguration() if settings.backend == "mock" else FileConfiguration(settings, environ)


def _shown(effective: Effective) -> dict[str, dict[str, Setting]]:
    return {
        name: {key: Setting(row.value, str(row.origin)) for key, row in show(effective, name).items()}
        for name in effective.services
    }


class FileConfiguration:
    """See settled.Configuration: environment and host file, variables, assignments."""

    def __init__(self, settings: ConfigurationSettings, environ: Mapping[str, str]) -> None:
        self._keeper = Keeper(settings, environ)

    @property
    def problems(self) -> tuple[Problem, ...]:
        return self._keeper.problems

    async def settled(self) -> Settled:
        loaded = self._keeper.loaded
        return Settled(loaded.version, loaded.at_s, _shown(loaded.effective))

    async def reload(self) -> bool:
        return await asyncio.to_thread(self._keeper.reload)

    async def refresh(self) -> bool | None:
        return await self.reload() if await asyncio.to_thread(self._keeper.changed) else None

    async def close(self) -> None:
        pass


class MemoryConfiguration:
    """See settled.Configuration: what `said` has, a mapping from services to their settings."""

    def __init__(self) -> None:
        self.said: dict[str, object] = {}
        self.problems: tuple[Problem, ...] = ()
        self._read: dict[str, object] = {}
        self._settled = self._lay({})

    @staticmethod
    def _lay(said: dict[str, Any]) -> Settled:
        services = _shown(lay([Layer("memory", said, in_file=False)], environ={}))
        version = hashlib.sha256(msgspec.json.encode(services, order="sorted")).hexdigest()[:16]
        return Settled(version, time.time(), services)

    async def settled(self) -> Settled:
        return self._settled

    async def reload(self) -> bool:
        self._read = dict(self.said)
        try:
            self._settled = self._lay(self._read)
        except InvalidConfiguration as error:
            self.problems = error.problems
            return False
        self.problems = ()
        return True

    async def refresh(self) -> bool | None:
        return await self.reload() if self.said != self._read else None

    async def close(self) -> None:
        pass


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
        self._client = httpx.AsyncClient(base_url=url, timeout=timeout_s, trust_env=False)
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
        try:
            if told:
                await self._client.post(told)
            answer = await self._client.get("/configuration")
            answer.raise_for_status()
            page = msgspec.json.decode(answer.content, type=_Page)
        except (httpx.HTTPError, msgspec.MsgspecError) as error:
            self.problems = (Problem(self._url, "", f"{_AWAY}: {type(error).__name__}"),)
            return
        self._last = Settled(page.version, page.loaded_at_s, page.services)
        self.problems = page.problems

    async def close(self) -> None:
        await self._client.aclose()
