"""Where a configuration is: in files of this host, in memory, or with another configuration service."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from reference_stack.schemas.configuration.configuration import ConfigurationSettings
from reference_stack.schemas.configuration.layers import Effective, Layer, lay
from reference_stack.schemas.configuration.problem import InvalidConfiguration, Problem
from reference_stack.services.infrastructure.configured import Keeper, secret_digests, show
from reference_stack.services.infrastructure.settled import Configuration, Setting, Settled


def connect(settings: ConfigurationSettings, environ: Mapping[str, str]) -> Configuration:
    """Return the configuration that `settings` name. Raises InvalidConfiguration when files have no good one."""
    if settings.backend == "external":
        # What speaks HTTP takes a while to import, and few need it.
        from reference_stack.services.infrastructure.remote_configuration import RemoteConfiguration

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
        effective = lay([Layer("memory", said, in_file=False)], environ={})
        services = _shown(effective)
        digest = hashlib.sha256(msgspec.json.encode([services, secret_digests(effective)], order="sorted"))
        version = digest.hexdigest()[:16]
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
