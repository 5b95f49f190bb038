"""Promises of what stands between a request and the cache: limits that stay, answers that are never mixed up."""

from __future__ import annotations

import asyncio

import pytest

from reference_stack.schemas.configuration.cache import CacheSettings
from reference_stack.services.integration.cache.breaker import Breaker
from reference_stack.services.integration.cache.memory import MemoryCache
from reference_stack.services.integration.cache.port import Unavailable
from reference_stack.services.integration.cache.responses import ResponseCache

WINDOW_S = 60.0


async def out() -> MemoryCache:
    """A cache that is out."""
    cache = MemoryCache(CacheSettings())
    cache.outage = True
    return cache


def test_a_breaker_opens_once_and_an_answer_closes_it() -> None:
    """Three failures in a row open it, and only the third says so; an answer in between begins anew."""
    breaker = Breaker(3)
    assert [breaker.failed(), breaker.failed()] == [False, False]
    breaker.answered()
    assert [breaker.failed() for _ in range(4)] == [False, False, True, False]
    assert breaker.open
    breaker.answered()
    assert not breaker.open


async def test_an_open_breaker_heals_by_itself() -> None:
    """After the cache in memory was out and is back, calls are answered without anybody's help."""
    cache = await out()
    for _ in range(3):
        with pytest.raises(Unavailable, match="cannot be asked"):
            await cache.get("a")
    with pytest.raises(Unavailable, match="in the background"):
        await cache.get("a")
    cache.outage = False
    async with asyncio.timeout(5):
        while cache.broken:  # noqa: ASYNC110 - it heals in a task of its own
            await asyncio.sleep(0.01)
    assert await cache.get("a") is None
    await cache.close()


async def test_closing_while_the_server_is_out_leaves_no_task() -> None:
    """A cache that is closed with its breaker open stops asking."""
    cache = await out()
    for _ in range(3):
        assert await cache.ping()
    assert cache.broken
    await cache.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_answer_is_made_once_for_each_who_asks() -> None:
    """The same request of the same tenant is answered from before, in whatever order its keys come; others are not."""
    cache = MemoryCache(CacheSettings())
    responses = ResponseCache(cache, WINDOW_S)
    made = 0

    async def make() -> bytes:
        nonlocal made
        made += 1
        return b"%d" % made

    assert await responses.answer("a", {"x": 1, "y": 2}, make) == (b"1", False)
    assert await responses.answer("a", {"y": 2, "x": 1}, make) == (b"1", True)
    assert await responses.answer("b", {"x": 1, "y": 2}, make) == (b"2", False)
    assert await responses.answer("a", {"x": 1, "y": 3}, make) == (b"3", False)
    await cache.close()


async def test_a_large_answer_is_not_kept() -> None:
    """An answer over the limit is given and not kept."""
    cache = MemoryCache(CacheSettings())
    responses = ResponseCache(cache, WINDOW_S, most_bytes=3)

    async def make() -> bytes:
        return b"four"

    assert [await responses.answer("a", {}, make) for _ in range(2)] == [(b"four", False)] * 2
    await cache.close()


async def test_an_answer_under_a_wrong_name_is_given_to_nobody() -> None:
    """Where the cache gives back what was kept for another request, it counts as nothing."""

    class Mixed(MemoryCache):
        async def get(self, name: str) -> bytes | None:
            return await super().get("always the same") or await super().get(name)

    cache = Mixed(CacheSettings())
    responses = ResponseCache(cache, WINDOW_S)

    async def mine() -> bytes:
        return b"mine"

    await responses.answer("a", {"q": 1}, mine)
    await cache.put("always the same", b"\0" * 32 + b"another's", WINDOW_S)
    assert await responses.answer("a", {"q": 1}, mine) == (b"mine", False)
    await cache.close()
