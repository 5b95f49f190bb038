"""Processes that share the limits of keys, on a clock that a test moves."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from reference_stack.schemas.api.keys import ApiKey, KeyLimits
from reference_stack.schemas.configuration.cache import CacheSettings
from reference_stack.services.infrastructure.api_gateway.keys.limits import LeasedLimits
from reference_stack.services.infrastructure.api_gateway.ports import Grant
from reference_stack.services.infrastructure.api_gateway.refusal import Refusal
from reference_stack.services.integration.cache.client import RedisCache
from reference_stack.services.integration.cache.port import Ask, Draw, Unavailable
from reference_stack.services.integration.database.memory import MemoryDatabase
from tests.reference_stack.infrastructure.conftest import key_of
from tests.reference_stack.moved_scripts import MovedScripts


@dataclass
class Shared:
    """Cache and budgets as several processes see them, on a clock that a test moves; counts round trips.

    The scripts are the real ones.
    """

    now_s: float = 1000.0
    out: bool = False
    loses_answers: bool = False
    trips: int = 0
    database: MemoryDatabase = field(default_factory=MemoryDatabase)

    def __post_init__(self) -> None:
        self.scripts = MovedScripts(lambda: self.now_s)
        self._cache = RedisCache(self.scripts, CacheSettings(command_s=5.0, connect_s=5.0))  # type: ignore[arg-type]  # what scripts need of a client

    def process(self, sharers: int = 1) -> LeasedLimits:
        return LeasedLimits(self, self.database.spend, sharers=sharers, clock=lambda: self.now_s)  # type: ignore[arg-type]  # what limits ask of a cache, and no more

    def _trip(self) -> None:
        self.trips += 1
        if self.out:
            raise Unavailable("it is out")

    async def draw(self, name: str, limit: int, window_s: float, ask: Ask) -> Draw:
        self._trip()
        return await self._cache.draw(name, limit, window_s, ask)

    async def hold(self, name: str, holder: str, limit: int, least: int, most: int, ttl_s: float) -> int:
        self._trip()
        held = await self._cache.hold(name, holder, limit, least, most, ttl_s)
        if self.loses_answers:
            raise Unavailable("it did not answer in time")
        return held

    def places(self, name: str, holder: str) -> int:
        """Return how many places a holder holds."""
        kept = self.scripts.hashes.get(f"hxp:hold:{name}", {})
        return int(kept.get(holder, "0 0").split()[0])


def limited(**limits: int) -> ApiKey:
    return replace(key_of("carol"), limits=KeyLimits(**limits))


async def take(process: LeasedLimits, key: ApiKey, tokens: int = 10) -> Grant | Refusal:
    try:
        return await asyncio.create_task(_take(process, key, tokens))
    except Refusal as refusal:
        return refusal


async def _take(process: LeasedLimits, key: ApiKey, tokens: int) -> Grant:
    return await process.take(key, tokens)


async def granted(process: LeasedLimits, key: ApiKey, times: int, tokens: int = 10) -> int:
    """Return how many of so many requests, one after another, are granted."""
    return sum([not isinstance(await take(process, key, tokens), Refusal) for _ in range(times)])
