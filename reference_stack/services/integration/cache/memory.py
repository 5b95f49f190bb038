"""The cache in memory: the same client on fakeredis, so that even the scripts are the real ones."""

from __future__ import annotations

from fakeredis import FakeAsyncRedis, FakeServer

from reference_stack.schemas.configuration.cache import CacheSettings
from reference_stack.services.integration.cache.client import RedisCache


class MemoryCache(RedisCache):
    """See port.Cache. With `outage` set every call raises Unavailable."""

    def __init__(self, settings: CacheSettings) -> None:
        self._server = FakeServer()
        super().__init__(FakeAsyncRedis(server=self._server), settings)

    @property
    def outage(self) -> bool:
        return not self._server.connected

    @outage.setter
    def outage(self, out: bool) -> None:
        self._server.connected = not out
