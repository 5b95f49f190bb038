"""The cache on a Redis-protocol server, with deadlines: the client's own would let an outage cost seconds a call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from reference_stack.schemas.configuration.cache import CacheSettings
from reference_stack.services.integration.cache.port import Allowance, Unavailable

if TYPE_CHECKING:
    from redis.commands.core import AsyncScript

Answer = TypeVar("Answer")
# Fixed window. The server's clock decides, so that callers on several machines agree.
_ALLOW = """
local used = tonumber(redis.call('GET', KEYS[1]) or '0')
local limit, window_ms, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
if used + cost > limit then
    local left_ms = redis.call('PTTL', KEYS[1])
    if left_ms < 0 then left_ms = window_ms end
    return {0, math.max(limit - used, 0), left_ms}
end
if used == 0 then
    redis.call('SET', KEYS[1], cost, 'PX', window_ms)
else
    redis.call('INCRBY', KEYS[1], cost)
end
return {1, limit - used - cost, 0}
"""


def connect(settings: CacheSettings) -> RedisCache:
    """Return the cache at `settings`; it connects when first asked."""
    pool = BlockingConnectionPool.from_url(
        settings.url,
        max_connections=settings.connections,
        timeout=settings.command_s,
        socket_connect_timeout=settings.connect_s,
        socket_timeout=settings.command_s,
        # One more try, at once: a connection that the server closed while idle is found out by using it.
        retry=Retry(NoBackoff(), 1),
    )
    return RedisCache(Redis(connection_pool=pool), settings)


class RedisCache:
    """See port.Cache. Names are prefixed with the namespace."""

    def __init__(self, client: Redis, settings: CacheSettings) -> None:
        self._client = client
        self._namespace = settings.namespace
        # The whole call: a pool's queue, a connection, two tries.
        self._deadline_s = settings.connect_s + 2 * settings.command_s
        self._allow: AsyncScript = client.register_script(_ALLOW)

    async def get(self, name: str) -> bytes | None:
        found: object = await self._ask(self._client.get(self._key(name)))
        return found if isinstance(found, bytes) else None

    async def put(self, name: str, value: bytes, ttl_s: float) -> None:
        await self._ask(self._client.set(self._key(name), value, px=_ms(ttl_s)))

    async def drop(self, name: str) -> None:
        await self._ask(self._client.delete(self._key(name)))

    async def allow(self, name: str, limit: int, window_s: float, cost: int = 1) -> Allowance:
        arguments = [limit, _ms(window_s), cost]
        allowed, left, wait_ms = await self._ask(self._allow(keys=[self._key(f"limit:{name}")], args=arguments))
        return Allowance(bool(allowed), int(left), int(wait_ms) / 1000)

    async def ping(self) -> str:
        try:
            await self._ask(self._client.ping())
        except Unavailable as error:
            return error.message
        return ""

    async def close(self) -> None:
        await self._client.aclose(close_connection_pool=True)

    def _key(self, name: str) -> str:
        return f"{self._namespace}:{name}"

    async def _ask(self, call: Awaitable[Answer]) -> Answer:
        try:
            async with asyncio.timeout(self._deadline_s):
                return await call
        except TimeoutError:
            raise Unavailable("the cache did not answer in time") from None
        except (RedisError, OSError) as error:
            raise Unavailable(f"the cache cannot be asked: {type(error).__name__}") from error


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
