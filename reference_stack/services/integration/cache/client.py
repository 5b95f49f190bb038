"""The cache on a Redis-protocol server, with a deadline and a breaker: the client alone would wait for seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as NoAnswer

from reference_stack.schemas.configuration.cache import CacheSettings
from reference_stack.services.integration.cache.breaker import Breaker
from reference_stack.services.integration.cache.port import Allowance, Ask, Draw, Unavailable
from reference_stack.services.integration.cache.scripts import DRAW, HOLD
from reference_stack.together import Together

if TYPE_CHECKING:
    from redis.commands.core import AsyncScript

Answer = TypeVar("Answer")
_PROBE_S = 0.1  # while the breaker is open, the server is asked this often, by nobody who waits for it
_HEALTH_S = 1.0
# So many limits in one step of the server, which serves nobody else meanwhile: about a millisecond.
_TOGETHER = 64
# More would go one by one where few ask at a time; with fewer, who asks waits for a server that hangs, and then again.
_TRIPS = 8


def connect(settings: CacheSettings) -> RedisCache:
    """Return the cache at `settings`; it connects when first asked."""
    pool = BlockingConnectionPool.from_url(
        settings.url,
        max_connections=settings.connections,
        timeout=settings.command_s,
        socket_connect_timeout=settings.connect_s,
        socket_timeout=None,  # each call has its deadline around all of it: queue, connection, both tries
        # One more try, at once: a connection that the server closed while idle is found out by using it.
        retry=Retry(NoBackoff(), 1),
    )
    return RedisCache(Redis(connection_pool=pool), settings)


class RedisCache:
    """See port.Cache. Names are prefixed with the namespace.

    After three calls in a row without an answer the breaker opens: calls fail at once, those that wait too, and a task
    of its own asks until the server answers. One that answers and refuses (out of memory, read-only) does not open it.
    """

    def __init__(self, client: Redis, settings: CacheSettings) -> None:
        self._client = client
        self._namespace = settings.namespace
        self._deadline_s = settings.command_s
        self._draw: AsyncScript = client.register_script(DRAW)
        self._hold: AsyncScript = client.register_script(HOLD)
        self._drawn = Together(self._draw_all, most=_TOGETHER, at_once=_TRIPS)
        self._held = Together(self._hold_all, most=_TOGETHER, at_once=_TRIPS)
        self._breaker = Breaker()
        self._waiting: set[asyncio.Timeout] = set()
        self._probing: asyncio.Task[None] | None = None

    @property
    def broken(self) -> bool:
        """Whether calls fail at once because the server does not answer."""
        return self._breaker.open

    async def get(self, name: str) -> bytes | None:
        found: object = await self._ask(lambda: self._client.get(self._key(name)))
        return found if isinstance(found, bytes) else None

    async def put(self, name: str, value: bytes, ttl_s: float) -> None:
        await self._ask(lambda: self._client.set(self._key(name), value, px=_ms(ttl_s)))

    async def drop(self, name: str) -> None:
        await self._ask(lambda: self._client.delete(self._key(name)))

    async def allow(self, name: str, limit: int, window_s: float, cost: int = 1) -> Allowance:
        drawn = await self.draw(name, limit, window_s, Ask(cost, cost, cost))
        return Allowance(drawn.given > 0, drawn.left, drawn.retry_s)

    async def draw(self, name: str, limit: int, window_s: float, ask: Ask) -> Draw:
        words = f"{limit} {_ms(window_s)} {ask.least} {ask.want} {ask.most} {ask.owed} {len(ask.back)}"
        for part, amount in ask.back:
            words += f" {part} {amount}"
        return await self._drawn((self._key(f"limit:{name}"), words))

    async def _draw_all(self, asked: Sequence[tuple[str, str]]) -> list[Draw]:
        numbers = iter(await self._run(self._draw, asked))
        return [
            Draw(given, left, lasts_ms / 1000, part, retry_ms / 1000, whole_ms / 1000, born)
            for given, left, lasts_ms, part, retry_ms, whole_ms, born in zip(*[numbers] * 7, strict=True)
        ]

    async def hold(self, name: str, holder: str, limit: int, least: int, most: int, ttl_s: float) -> int:
        """See port.Cache; `holder` is a word."""
        words = f"{holder} {limit} {least} {most} {_ms(ttl_s)}"
        return await self._held((self._key(f"hold:{name}"), words))

    async def _hold_all(self, asked: Sequence[tuple[str, str]]) -> list[int]:
        return await self._run(self._hold, asked)

    async def _run(self, script: AsyncScript, asked: Sequence[tuple[str, str]]) -> list[int]:
        """Run a script over the keys that stand first, with the words that stand behind them."""
        keys, words = [key for key, _ in asked], " ".join(words for _, words in asked)
        answer = await self._ask(lambda: script(keys=keys, args=[words]))
        return [int(number) for number in answer.split()]

    async def ping(self) -> str:
        """Ask for a small write: a server that answers PING may still take nothing. Asks through an open breaker."""
        try:
            await self._try(lambda: self._client.set(self._key("health"), b"", px=1000), _HEALTH_S)
        except Unavailable as error:
            return error.message
        return ""

    async def close(self) -> None:
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait({self._probing})
        await self._client.aclose(close_connection_pool=True)

    def _key(self, name: str) -> str:
        return f"{self._namespace}:{name}"

    async def _ask(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        if self._breaker.open:
            raise Unavailable("the cache does not answer; it is asked again in the background")
        return await self._try(call, self._deadline_s)

    async def _try(self, call: Callable[[], Awaitable[Answer]], deadline_s: float) -> Answer:
        try:
            answer = await self._wait(call, deadline_s)
        except (TimeoutError, NoAnswer):
            self._note_failure()
            raise Unavailable("the cache did not answer in time") from None
        except (NoConnection, OSError) as error:
            self._note_failure()
            raise Unavailable(f"the cache cannot be asked: {type(error).__name__}") from error
        except RedisError as error:
            self._breaker.answered()
            raise Unavailable(f"the cache refuses: {type(error).__name__}") from error
        self._breaker.answered()
        return answer

    async def _wait(self, call: Callable[[], Awaitable[Answer]], deadline_s: float) -> Answer:
        async with asyncio.timeout(deadline_s) as bound:
            self._waiting.add(bound)
            try:
                return await _once_more(call)
            finally:
                self._waiting.discard(bound)

    def _note_failure(self) -> None:
        if self._breaker.failed():
            now = asyncio.get_running_loop().time()
            for bound in self._waiting:
                if not bound.expired():
                    bound.reschedule(now)
            self._probing = asyncio.create_task(self._probe())

    async def _probe(self) -> None:
        while self._breaker.open:
            await asyncio.sleep(_PROBE_S)
            await self.ping()


async def _once_more(call: Callable[[], Awaitable[Answer]]) -> Answer:
    """Try again on another connection where uvloop says in its own way that this one was reset: not as an OSError."""
    try:
        return await call()
    except RuntimeError:
        try:
            return await call()
        except RuntimeError as error:
            raise ConnectionResetError(str(error)) from error


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
