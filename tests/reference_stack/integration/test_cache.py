"""The contract of the cache: one suite over the mock, the embedded Valkey and a Redis that is not ours."""

from __future__ import annotations

import asyncio
import socket
import time
import uuid
from collections.abc import AsyncIterator

import pytest

from reference_stack.schemas.configuration.cache import CacheSettings
from reference_stack.services.integration.cache.client import connect
from reference_stack.services.integration.cache.memory import MemoryCache
from reference_stack.services.integration.cache.port import Allowance, Ask, Cache, Unavailable


@pytest.fixture(params=["mock", "embedded", "external"])
async def cache(request: pytest.FixtureRequest) -> AsyncIterator[Cache]:
    """A cache with a namespace of its own on each leg. Deadlines are those of a busy machine."""
    own = {"namespace": f"test-{uuid.uuid4().hex[:8]}", "command_s": 5.0, "connect_s": 5.0}
    store: Cache
    if request.param == "mock":
        store = MemoryCache(CacheSettings.model_validate(own))
    else:
        fixture = "valkey_server" if request.param == "embedded" else "external_redis"
        settings: CacheSettings = request.getfixturevalue(fixture)
        store = connect(settings.model_copy(update=own))
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
    """Of fifty callers at once exactly the limit is allowed, and each is told another rest."""
    answers = await asyncio.gather(*(cache.allow("many", 7, 60) for _ in range(50)))
    assert sum(answer.allowed for answer in answers) == 7
    assert sorted(answer.left for answer in answers if answer.allowed) == list(range(7))


async def test_costs_add_up_to_the_limit_and_no_further(cache: Cache) -> None:
    """Fifty callers of different costs take no more than the limit together, and what is left is right."""
    costs = [1 + index % 5 for index in range(50)]
    answers = await asyncio.gather(*(cache.allow("costs", 40, 60, cost) for cost in costs))
    taken = sum(cost for cost, answer in zip(costs, answers, strict=True) if answer.allowed)
    assert 40 - max(costs) < taken <= 40
    assert (await cache.allow("costs", 40, 60, 100)).left == 40 - taken


async def test_a_served_cache_says_so(cache: Cache) -> None:
    """A cache that answers and takes values has nothing to say against itself."""
    assert await cache.ping() == ""


async def test_a_value_of_a_mebibyte_comes_back(cache: Cache) -> None:
    """The largest value that the service takes is got as it was put; the empty one too."""
    for value in (b"", bytes(1024 * 1024)):
        await cache.put("a", value, 60)
        assert await cache.get("a") == value


async def test_a_later_value_replaces_the_earlier_and_its_time(cache: Cache) -> None:
    """The same name twice is one value, the later, for the time that came with it."""
    await cache.put("a", b"1", 0.05)
    await cache.put("a", b"2", 60)
    await cache.put("as short", b"1", 0.05)
    async with asyncio.timeout(5):
        while await cache.get("as short") is not None:  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.01)
    assert await cache.get("a") == b"2"


async def test_a_refusal_says_when_to_come_back(cache: Cache) -> None:
    """A refused call learns when enough will be left again, and costs nothing."""
    assert await cache.allow("few", 3, 60, cost=2) == Allowance(True, 1, 0.0)
    refused = await cache.allow("few", 3, 60, cost=2)
    assert not refused.allowed
    assert refused.left == 1
    assert 60 <= refused.retry_s <= 62
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


async def test_shares_are_exact_under_concurrent_callers(cache: Cache) -> None:
    """Fifty who draw at once are given no more than the limit together, and come to within a share of its end."""
    draws = await asyncio.gather(*(cache.draw("many", 1000, 60, Ask(3, 3, 100)) for _ in range(50)))
    while (last := await cache.draw("many", 1000, 60, Ask(1, 1, 100))).given:
        draws.append(last)
    assert sum(draw.given for draw in draws) == 1000
    assert max(draw.given for draw in draws) == 1000 // 16
    assert all(0 < draw.lasts_s <= 1.25 and draw.part for draw in draws)
    assert 58 < last.retry_s <= last.whole_s <= 61.25
    assert last.left == 0


async def test_what_is_wanted_is_given_while_it_is_there(cache: Cache) -> None:
    """The last of a limit goes to those who wait for it, all at once; less than the least is not given."""
    assert (await cache.draw("few", 10, 60, Ask(1, 7, 100))).given == 7
    assert (await cache.draw("few", 10, 60, Ask(4, 4, 100))).given == 0
    assert (await cache.draw("few", 10, 60, Ask(2, 9, 100))).given == 3


async def test_debts_count_and_what_is_given_back_is_there_again(cache: Cache) -> None:
    """What was used beyond the drawn is taken off; what is given back is left again, but no more than its part has."""
    first = await cache.draw("tokens", 100, 60, Ask(60, 60, 0))
    assert (await cache.draw("tokens", 100, 60, Ask(1, 0, 0, owed=30))).left == 10
    assert (await cache.draw("tokens", 100, 60, Ask(1, 0, 0, back=((first.part, 50),)))).left == 60
    assert (await cache.draw("tokens", 100, 60, Ask(1, 0, 0, back=((first.part - 7, 50),)))).left == 60
    assert (await cache.draw("tokens", 100, 60, Ask(1, 1, 0, owed=70))).given == 0


async def test_all_of_a_limit_can_be_drawn_again_a_window_later(cache: Cache) -> None:
    """When the window has passed what was drawn, all of the limit is there, in another part."""
    first = await cache.draw("short", 5, 0.05, Ask(5, 5, 5))
    assert first.given == 5
    async with asyncio.timeout(5):
        while not (again := await cache.draw("short", 5, 0.05, Ask(5, 5, 5))).given:  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.01)
    assert again.part > first.part


async def test_no_span_of_a_window_has_more_than_the_limit(cache: Cache) -> None:
    """Fifty clients race for two seconds: whatever span of 0.3 s one looks at, no more than 40 were let in."""
    ends_s = time.monotonic() + 2
    let_in: list[tuple[float, float]] = []

    async def client() -> None:
        while (began_s := time.monotonic()) < ends_s:
            if (await cache.allow("race", 40, 0.3)).allowed:
                let_in.append((began_s, time.monotonic()))
            await asyncio.sleep(0)

    await asyncio.gather(*(client() for _ in range(50)))
    # A call took place somewhere between its beginning and its end, so only what lies whole in a span counts there.
    most = max(sum(began <= each[0] and each[1] <= began + 0.3 for each in let_in) for began, _ in let_in)
    assert most <= 40
    assert len(let_in) >= 2 * 40


async def test_places_are_shared_and_come_back(cache: Cache) -> None:
    """All holders together hold no more than the limit, but what is in use; who does not hold on holds nothing."""
    assert await cache.hold("k", "a", 10, 0, 6, 60) == 6
    assert await cache.hold("k", "b", 10, 0, 6, 60) == 4
    assert await cache.hold("k", "a", 10, 2, 3, 60) == 3
    assert await cache.hold("k", "b", 10, 4, 9, 60) == 7
    assert await cache.hold("k", "c", 10, 1, 5, 60) == 1
    assert await cache.hold("k", "b", 10, 0, 0, 60) == 0
    assert await cache.hold("k", "d", 10, 0, 9, 0.05) == 6
    async with asyncio.timeout(5):
        while await cache.hold("k", "c", 10, 1, 9, 60) != 7:  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.01)


async def test_places_are_exact_under_concurrent_holders(cache: Cache) -> None:
    """Of fifty holders who want three places each at once, the limit is held and no more."""
    held = await asyncio.gather(*(cache.hold("many", str(n), 20, 0, 3, 60) for n in range(50)))
    assert sum(held) == 20


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


async def test_fifty_clients_of_their_own_share_a_limit_exactly(valkey_server: CacheSettings) -> None:
    """Fifty clients with a connection each, all at once, get exactly the limit between them, time after time."""
    own = {"namespace": f"race-{uuid.uuid4().hex[:8]}", "command_s": 10.0, "connect_s": 10.0, "connections": 1}
    clients = [connect(valkey_server.model_copy(update=own)) for _ in range(50)]
    for turn in range(5):
        answers = await asyncio.gather(*(client.allow(f"turn{turn}", 20, 60) for client in clients))
        assert sum(answer.allowed for answer in answers) == 20
    for client in clients:
        await client.close()


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
