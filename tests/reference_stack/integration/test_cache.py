"""The contract of the cache, held by the one in memory and by a real server alike."""

from __future__ import annotations

import asyncio
import os
import socket
import time
import uuid
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from reference_stack.schemas.configuration.cache import CacheSettings
from reference_stack.services.integration.cache.client import connect
from reference_stack.services.integration.cache.memory import MemoryCache
from reference_stack.services.integration.cache.port import Allowance, Cache, Unavailable

EXTERNAL = "HXP_TEST_REDIS_URL"


@pytest.fixture(params=["memory", "embedded", "external"])
async def cache(request: pytest.FixtureRequest) -> AsyncIterator[Cache]:
    """A cache with a namespace of its own on each leg. Deadlines are those of a busy machine."""
    own = {"namespace": f"test-{uuid.uuid4().hex[:8]}", "command_s": 5.0, "connect_s": 5.0}
    store: Cache
    if request.param == "memory":
        store = MemoryCache(CacheSettings.model_validate(own))
    elif request.param == "embedded":
        settings: CacheSettings = request.getfixturevalue("valkey_server")
        store = connect(settings.model_copy(update=own))
    else:
        url = os.environ.get(EXTERNAL)
        if url is None:
            pytest.skip(f"no external Redis: {EXTERNAL} is not set")
        store = connect(
            CacheSettings.model_validate({**own, "host": urlsplit(url).hostname, "port": urlsplit(url).port})
        )
    yield store
    await store.close()


async def test_a_value_is_kept_and_dropped(cache: Cache) -> None:
    """What was put is got, bytes for bytes, until it is dropped."""
    value = bytes(range(256))
    await cache.put("a", value, 60)
    assert await cache.get("a") == value
    await cache.drop("a")
    await cache.drop("a")
    assert await cache.get("a") is None


async def test_a_value_ends_with_its_time(cache: Cache) -> None:
    """A value is gone after its time to live."""
    await cache.put("a", b"x", 0.05)
    async with asyncio.timeout(5):
        while await cache.get("a") is not None:  # noqa: ASYNC110 - the server's clock tells nobody
            await asyncio.sleep(0.01)


async def test_a_limit_is_exact_under_concurrent_callers(cache: Cache) -> None:
    """Of many callers at once exactly the limit is allowed."""
    answers = await asyncio.gather(*(cache.allow("many", 7, 60) for _ in range(30)))
    assert sum(answer.allowed for answer in answers) == 7
    assert sorted(answer.left for answer in answers if answer.allowed) == list(range(7))


async def test_a_refusal_says_when_to_come_back(cache: Cache) -> None:
    """A refused call learns when the window ends, and costs nothing."""
    assert await cache.allow("few", 3, 60, cost=2) == Allowance(True, 1, 0.0)
    refused = await cache.allow("few", 3, 60, cost=2)
    assert not refused.allowed
    assert refused.left == 1
    assert 0 < refused.retry_s <= 60
    assert (await cache.allow("few", 3, 60)).allowed


async def test_a_limit_of_nothing_allows_nothing(cache: Cache) -> None:
    """A limit of 0 refuses the first call, and a window's length is how long to wait."""
    assert await cache.allow("none", 0, 30) == Allowance(False, 0, 30.0)


async def test_a_new_window_has_the_whole_limit(cache: Cache) -> None:
    """When the window is over the limit is whole again."""
    assert (await cache.allow("short", 1, 0.05)).allowed
    async with asyncio.timeout(5):
        while not (await cache.allow("short", 1, 0.05)).allowed:  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.01)


async def test_namespaces_do_not_meet(valkey_server: CacheSettings) -> None:
    """The same name in two namespaces is two values."""
    caches = [connect(valkey_server.model_copy(update={"namespace": name, "command_s": 5.0})) for name in ("n1", "n2")]
    for cache, value in zip(caches, (b"1", b"2"), strict=True):
        await cache.put("same", value, 60)
    assert [await cache.get("same") for cache in caches] == [b"1", b"2"]
    for cache in caches:
        await cache.close()


async def test_an_outage_is_said_to_be_one() -> None:
    """The cache in memory, told to be out, raises what the real one raises, and comes back."""
    cache = MemoryCache(CacheSettings())
    cache.outage = True
    assert cache.outage
    with pytest.raises(Unavailable):
        await cache.get("a")
    cache.outage = False
    assert await cache.get("a") is None
    await cache.close()


async def test_nobody_there_costs_little() -> None:
    """With no server a call fails at once instead of retrying for seconds."""
    cache = connect(CacheSettings(port=1))
    began = time.monotonic()
    assert await cache.ping() == "the cache cannot be asked: ConnectionError"
    assert time.monotonic() - began < 2
    await cache.close()


async def test_a_hung_server_costs_the_deadline() -> None:
    """A server that takes connections and says nothing costs the bounded time of a call, not the client's 15 s."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        cache = connect(CacheSettings(port=silent.getsockname()[1], connect_s=0.05, command_s=0.05))
        began = time.monotonic()
        with pytest.raises(Unavailable):
            await cache.get("a")
        assert time.monotonic() - began < 2
        await cache.close()


def test_the_url_carries_the_password_quoted() -> None:
    """A password with the characters of a URL stays a password."""
    settings = CacheSettings.model_validate({"password": "p@ss/w:rd", "index": 3})
    assert settings.url == "redis://:p%40ss%2Fw%3Ard@127.0.0.1:6379/3"
