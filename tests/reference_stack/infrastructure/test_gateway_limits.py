"""What keys may ask for: never more than their limits over all processes, and nearly all of it."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference_stack.schemas.api.keys import UNLIMITED, ApiKey, KeyLimits
from reference_stack.schemas.configuration.cache import CacheSettings
from reference_stack.services.infrastructure.api_gateway.keys.limits import LeasedLimits
from reference_stack.services.infrastructure.api_gateway.plain import Unlimited
from reference_stack.services.infrastructure.api_gateway.ports import Grant
from reference_stack.services.infrastructure.api_gateway.refusal import Refusal
from reference_stack.services.integration.cache.client import RedisCache
from reference_stack.services.integration.cache.memory import MemoryCache
from reference_stack.services.integration.cache.port import Ask, Draw, Unavailable
from reference_stack.services.integration.database.memory import MemoryDatabase
from tests.reference_stack.infrastructure.conftest import key_of
from tests.reference_stack.moved_scripts import MovedScripts

MODEL = "phi3"


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


@pytest.fixture
def shared() -> Shared:
    return Shared()


def limited(**limits: int) -> ApiKey:
    return replace(key_of("carol"), limits=KeyLimits(**limits))


async def take(process: LeasedLimits, key: ApiKey, tokens: int = 10) -> Grant | Refusal:
    try:
        return await asyncio.create_task(_take(process, key, tokens))
    except Refusal as refusal:
        return refusal


async def _take(process: LeasedLimits, key: ApiKey, tokens: int) -> Grant:
    return await process.take(key, MODEL, tokens)


async def granted(process: LeasedLimits, key: ApiKey, times: int, tokens: int = 10) -> int:
    """Return how many of so many requests, one after another, are granted."""
    return sum([not isinstance(await take(process, key, tokens), Refusal) for _ in range(times)])


async def test_a_key_without_limits_costs_nothing(shared: Shared) -> None:
    """It is granted with no trip, and nothing is remembered of it."""
    process = shared.process()
    assert key_of("carol").limits is UNLIMITED
    assert isinstance(await take(process, key_of("carol")), Unlimited)
    assert (shared.trips, process._books) == (0, {})


async def test_what_a_process_allows_itself_is_not_given_back(shared: Shared) -> None:
    """A key that rests for a moment while the cache is out has the rest of its share after it."""
    process, key = shared.process(), limited(requests_per_minute=1000)
    shared.out = True
    assert await granted(process, key, 1) == 1
    shared.now_s += 10
    await process.tidy()
    assert await granted(process, key, 1000) == 999
    shared.out = False
    await process.tidy()
    shared.out = True
    assert await granted(process, key, 1) == 0
    shared.now_s += 60
    assert await granted(process, key, 1) == 1


async def test_requests_of_a_minute_are_exact_over_processes(shared: Shared) -> None:
    """Four processes grant the limit between them, tell who is refused when to come back, and begin anew."""
    key = limited(requests_per_minute=1000)
    processes = [shared.process(4) for _ in range(4)]
    taken = [await take(processes[n % 4], key) for n in range(1200)]
    assert sum(not isinstance(each, Refusal) for each in taken) == 1000
    refused = taken[-1]
    assert isinstance(refused, Refusal)
    assert (refused.status, refused.code, refused.retry_after_s) == (429, "rate_limit_exceeded", 61)
    assert dict(refused.headers())[b"x-ratelimit-remaining-requests"] == b"0"
    shared.now_s += 60.9
    assert await granted(processes[0], key, 5) == 0
    shared.now_s += 0.1
    assert await granted(processes[0], key, 1100) == 1000


async def test_a_lease_with_room_makes_no_trip(shared: Shared) -> None:
    """A thousand requests of a key with a high limit cost a few trips, and a storm of refusals costs hardly any."""
    key = limited(requests_per_minute=100_000, tokens_per_minute=100_000_000)
    process = shared.process()
    assert await granted(process, key, 1000) == 1000
    assert shared.trips <= 6
    few = replace(limited(requests_per_minute=60), id="few")
    assert await granted(process, few, 40) == 40
    assert shared.trips <= 6 + 25
    assert await granted(process, few, 1000) == 20
    assert shared.trips <= 6 + 50


async def test_idle_processes_keep_little_of_a_limit(shared: Shared) -> None:
    """Three processes that were asked once leave the fourth at least 95 % of the limit, once they rested."""
    for limit in (20, 100, 500, 3000):
        key = replace(limited(requests_per_minute=limit), id=f"k{limit}")
        others = [shared.process(4) for _ in range(3)]
        for process in others:
            assert await granted(process, key, 1) == 1
        shared.now_s += 1.1
        for process in others:
            await process.tidy()
        assert await granted(shared.process(4), key, limit) + 3 >= 0.95 * limit


async def test_tokens_are_estimated_and_then_settled(shared: Shared) -> None:
    """An estimate is taken, what was not used is there again, what was used beyond it is owed."""
    key = limited(tokens_per_minute=1000)
    process = shared.process()
    first = await take(process, key, 900)
    assert isinstance(await take(process, key, 200), Refusal)
    assert not isinstance(first, Refusal)
    first.settle(100)
    second = await take(process, key, 800)
    assert not isinstance(second, Refusal)
    second.settle(880)
    assert await granted(process, key, 1, 30) == 0
    shared.now_s += 0.5
    assert await granted(process, key, 1, 20) == 1
    too_large = await take(process, key, 1001)
    assert isinstance(too_large, Refusal)
    assert "1000" in too_large.message
    assert too_large.retry_after_s is not None


async def test_what_is_owed_is_owed_through_an_outage(shared: Shared) -> None:
    """A debt that the cache could not be told of is paid when it is back: nobody is given what was used."""
    key = limited(tokens_per_minute=1000)
    process, other = shared.process(2), shared.process(2)
    grant = await take(process, key, 100)
    assert not isinstance(grant, Refusal)
    grant.settle(900)
    shared.out = True
    await process.tidy()
    shared.out = False
    await process.tidy()
    assert await granted(other, key, 1, 200) == 0
    assert await granted(other, key, 1, 50) == 1


async def test_what_others_give_back_is_found(shared: Shared) -> None:
    """Tokens that one process has far too many of go back to the others when it tidies up."""
    key = limited(tokens_per_minute=1000)
    one, other = shared.process(2), shared.process(2)
    grant = await take(one, key, 1000)
    assert await granted(other, key, 1, 500) == 0
    assert not isinstance(grant, Refusal)
    grant.settle(0)
    await one.tidy()
    shared.now_s += 0.5
    assert await granted(other, key, 1, 500) == 1


async def test_places_are_shared_renewed_and_come_back(shared: Shared) -> None:
    """Requests at a time are exact over processes; a process that is gone gives its places back within its lease."""
    key = limited(concurrent=8)
    one, other = shared.process(2), shared.process(2)
    grants = [await take(one, key) for _ in range(5)]
    assert await granted(other, key, 5) == 3
    shared.now_s += 9
    await other.renew()
    shared.now_s += 2
    assert await granted(other, key, 9) == 5
    assert not any(isinstance(each, Refusal) for each in grants)


async def test_a_place_that_falls_free_is_taken_at_once_and_let_go_soon(shared: Shared) -> None:
    """A place is used again with no trip; left alone for a moment, another process has it."""
    key = limited(concurrent=1)
    one, other = shared.process(2), shared.process(2)
    for _ in range(100):
        grant = await take(one, key)
        assert not isinstance(grant, Refusal)
        assert isinstance(await take(one, key), Refusal)
        grant.settle(0)
    assert shared.trips < 110
    async with asyncio.timeout(5):
        while isinstance(found := await take(other, key), Refusal):
            shared.now_s += 0.1
            await asyncio.sleep(0.01)
    assert not isinstance(found, Refusal)


async def test_what_was_drawn_in_one_moment_is_not_used_in_another(shared: Shared) -> None:
    """A process that has some in hand for a while has none of it later, when another used all of the limit."""
    key = limited(requests_per_minute=1000)
    one, other = shared.process(2), shared.process(2)
    assert await granted(one, key, 1) == 1
    shared.now_s += 63
    assert await granted(other, key, 1100) == 1000
    assert await granted(one, key, 5) == 0


async def test_a_limit_slides(shared: Shared) -> None:
    """Half of a limit used late in a minute is not there again with the next minute, but a minute after its use."""
    key = limited(requests_per_minute=100)
    process = shared.process()
    shared.now_s += 50
    assert await granted(process, key, 60) == 60
    shared.now_s += 30
    assert await granted(process, key, 100) == 40
    refused = await take(process, key)
    assert isinstance(refused, Refusal)
    assert refused.retry_after_s == 31
    shared.now_s += 30.9
    assert await granted(process, key, 100) == 0
    shared.now_s += 0.1
    assert await granted(process, key, 100) == 60


async def test_who_comes_back_when_told_is_let_in(shared: Shared) -> None:
    """Retry-After is right: not before it, and then."""
    key = limited(requests_per_minute=7, tokens_per_minute=1000)
    process = shared.process()
    for _ in range(7):
        assert await granted(process, key, 1, 100) == 1
        shared.now_s += 3.3
    for _ in range(7):
        refused = await take(process, key, 100)
        assert isinstance(refused, Refusal)
        assert refused.retry_after_s is not None
        shared.now_s += refused.retry_after_s - 1.1
        assert await granted(process, key, 1, 100) == 0
        shared.now_s += 1.1
        assert await granted(process, key, 1, 100) == 1


async def test_places_that_may_be_anothers_are_not_used(shared: Shared) -> None:
    """A process that let go and heard no answer does not use those places, but for its share while the cache is out."""
    key = limited(concurrent=4)
    one, other = shared.process(4), shared.process(4)
    grants = [await take(one, key) for _ in range(4)]
    shared.loses_answers = True
    for grant in grants:
        assert not isinstance(grant, Refusal)
        grant.settle(0)
    async with asyncio.timeout(5):
        while shared.places(key.id, one._holder):  # noqa: ASYNC110 - a moment later it lets go, and tells nobody
            await asyncio.sleep(0.01)
    shared.loses_answers = False
    assert await granted(other, key, 5) == 4
    shared.out = True
    assert await granted(one, key, 5) == 1


async def test_a_budget_is_spent_to_its_end_and_given_back(shared: Shared) -> None:
    """A budget is exact over processes; what a process has in hand when it ends is there for the others."""
    key = limited(budget_tokens=10_000)
    one, other = shared.process(2), shared.process(2)
    assert await granted(one, key, 50, 100) == 50
    await one.close()
    assert await shared.database.spend.spent(key.id) == 5000
    assert await granted(other, key, 60, 100) == 50
    refused = await take(other, key, 100)
    assert isinstance(refused, Refusal)
    assert (refused.status, refused.code) == (429, "insufficient_quota")


async def test_a_budget_that_cannot_be_asked_is_not_endless(shared: Shared, caplog: pytest.LogCaptureFixture) -> None:
    """While the database is out a process spends what it has in hand, then refuses with 503; one line says so."""
    key = limited(budget_tokens=10_000)
    process = shared.process()
    assert await granted(process, key, 1, 10) == 1
    shared.database.outage = True
    assert await granted(process, key, 200, 10) < 20
    refused = await take(process, key, 10)
    assert isinstance(refused, Refusal)
    assert (refused.status, refused.retry_after_s) == (503, 1)
    assert len(caplog.records) == 1
    shared.database.outage = False
    shared.now_s += 0.3
    assert await granted(process, key, 1, 10) == 1


async def test_with_the_cache_out_each_process_has_its_share(shared: Shared, caplog: pytest.LogCaptureFixture) -> None:
    """Never infinite: a share of what was left, then of the limit a minute, and of the places; one line for all."""
    caplog.set_level(logging.INFO)
    shared.out = True
    key = limited(requests_per_minute=1000, concurrent=4000)
    processes = [shared.process(4) for _ in range(4)]
    for _ in range(3):
        assert [await granted(process, key, 400) for process in processes] == [250] * 4
        shared.now_s += 61
    assert len(caplog.records) == 4
    shared.out = False
    shared.now_s += 1
    assert await granted(processes[0], key, 1) == 1
    assert caplog.records[-1].getMessage() == "limits are shared again"
    few = replace(limited(concurrent=8), id="few")
    shared.out = True
    assert [await granted(process, few, 9) for process in processes] == [2] * 4


async def test_an_outage_in_a_window_does_not_double_it(shared: Shared) -> None:
    """What a process knows to be used of the window that runs is not allowed again when the cache goes out."""
    key = limited(requests_per_minute=1000)
    processes = [shared.process(4) for _ in range(4)]
    before = sum([await granted(process, key, 200) for process in processes])
    shared.out = True
    after = sum([await granted(process, key, 1000) for process in processes])
    assert before == 800
    assert before + after < 1500


async def test_changed_limits_hold_from_the_next_request(shared: Shared) -> None:
    """Raised, lowered or lifted: the key's next request is under its new limits; none is under the old."""
    process = shared.process()
    assert await granted(process, limited(requests_per_minute=500, concurrent=100, tokens_per_minute=10**6), 3) == 3
    began = 3 + await granted(process, limited(requests_per_minute=9, concurrent=100), 20)
    assert began <= 9
    assert await granted(process, limited(requests_per_minute=30, concurrent=12), 20) == 12 - began
    assert 10 < await granted(process, limited(requests_per_minute=30, concurrent=100), 50) <= 30 - 12
    assert await granted(process, key_of("carol"), 50) == 50


async def test_without_a_cache_a_process_keeps_its_share(caplog: pytest.LogCaptureFixture) -> None:
    """One process alone needs no cache to keep limits, and says nothing of it."""
    process = LeasedLimits(None, None)
    assert await granted(process, limited(requests_per_minute=7, concurrent=100), 9) == 7
    few = replace(limited(concurrent=2), id="few")
    grants = [await take(process, few) for _ in range(3)]
    assert [isinstance(each, Refusal) for each in grants] == [False, False, True]
    assert isinstance(await take(process, replace(limited(budget_tokens=10), id="paid")), Refusal)
    assert [record.getMessage() for record in caplog.records] == ["budgets cannot be drawn on: there is no database"]


async def test_idle_keys_are_forgotten(shared: Shared) -> None:
    """A key that nobody used for a while takes no memory, and its budget goes back."""
    process = shared.process()
    for number in range(50):
        key = replace(limited(requests_per_minute=600, concurrent=3, budget_tokens=10_000), id=f"k{number}")
        grant = await take(process, key)
        assert not isinstance(grant, Refusal)
        grant.settle(10)
    async with asyncio.timeout(5):
        while process._books:
            shared.now_s += 71
            await process.tidy()
            await asyncio.sleep(0.06)
    assert await shared.database.spend.spent("k7") == 10


async def test_what_a_request_took_is_told(shared: Shared) -> None:
    """A grant has OpenAI's headers: the limit, what remains of it, and when it is whole again."""
    grant = await take(shared.process(), limited(requests_per_minute=60, tokens_per_minute=5000), 100)
    assert not isinstance(grant, Refusal)
    headers = dict(grant.headers)
    assert headers[b"x-ratelimit-limit-requests"] == b"60"
    assert headers[b"x-ratelimit-limit-tokens"] == b"5000"
    assert headers[b"x-ratelimit-reset-requests"] == b"61s"
    assert headers[b"x-ratelimit-remaining-requests"] == b"59"
    assert headers[b"x-ratelimit-remaining-tokens"] == b"4900"


STEPS = st.tuples(
    st.integers(0, 3), st.integers(1, 60), st.integers(0, 80), st.sampled_from([0, 0, 0, 0.3, 1.7, 29.0, 58.8, 61.0])
)


@dataclass
class Use:
    """A request that was granted: when, what it was estimated at, and from when on it was known to be less."""

    at_s: float
    estimate: int
    actual: int
    settled_s: float = float("inf")

    def tokens(self, now_s: float) -> int:
        return self.actual if now_s >= self.settled_s else self.estimate


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 40), st.integers(0, 900), st.integers(0, 6), st.lists(STEPS, max_size=60), st.lists(st.booleans())
)
def test_nothing_that_clients_do_exceeds_a_limit(
    rpm: int, tpm: int, concurrent: int, steps: list[tuple[int, int, int, float]], ends: list[bool]
) -> None:
    """Whatever four processes are asked, and when: no sixty seconds and no moment have more than the limit."""

    async def story() -> None:
        shared = Shared()
        key = limited(requests_per_minute=rpm, tokens_per_minute=tpm, concurrent=concurrent)
        processes = [shared.process(4) for _ in range(4)]
        used: list[Use] = []
        under_way: list[tuple[Grant, Use]] = []
        ending: Iterator[bool] = itertools.chain(ends, itertools.repeat(False))
        for which, estimate, actual, pause_s in steps:
            grant = await take(processes[which], key, estimate)
            if not isinstance(grant, Refusal):
                used.append(Use(shared.now_s, estimate, min(actual, estimate)))
                under_way.append((grant, used[-1]))
                lately = [use for use in used if use.at_s > shared.now_s - 60]
                assert len(lately) <= rpm
                assert sum(use.tokens(shared.now_s) for use in lately) <= tpm
            assert len(under_way) <= concurrent
            until_s = shared.now_s + pause_s
            while shared.now_s < until_s:
                shared.now_s = min(shared.now_s + 2.5, until_s)
                for process in processes:
                    await process.renew()
                    await process.tidy()
            over = next(ending)
            if under_way and over:
                grant, use = under_way.pop()
                use.settled_s = shared.now_s
                grant.settle(use.actual)

    asyncio.run(story())


@pytest.fixture
async def memory() -> AsyncIterator[MemoryCache]:
    cache = MemoryCache(CacheSettings())
    yield cache
    await cache.close()


async def test_the_real_scripts_keep_the_same_promise(memory: MemoryCache) -> None:
    """Four processes on the cache's own scripts, fifty clients each at once: no more than the limit, and nearly all."""
    key = limited(requests_per_minute=300, concurrent=120)
    processes = [LeasedLimits(memory, None, sharers=4) for _ in range(4)]
    many = await asyncio.gather(*(take(process, key) for process in processes for _ in range(50)))
    assert 0.95 * 120 <= sum(not isinstance(each, Refusal) for each in many) <= 120
