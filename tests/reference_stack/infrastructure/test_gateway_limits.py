"""What keys may ask for in a minute: never more than their limits over all processes, and nearly all of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from reference_stack.schemas.api.keys import UNLIMITED
from reference_stack.services.infrastructure.api_gateway.head import pairs_in
from reference_stack.services.infrastructure.api_gateway.plain import Unlimited
from reference_stack.services.infrastructure.api_gateway.refusal import Refusal
from tests.reference_stack.infrastructure.conftest import key_of
from tests.reference_stack.infrastructure.limits_cases import Shared, granted, limited, take


async def test_a_key_without_limits_costs_nothing(shared: Shared) -> None:
    """It is granted with no trip, and nothing is remembered of it."""
    process = shared.process()
    assert key_of("carol").limits is UNLIMITED
    assert isinstance(await take(process, key_of("carol")), Unlimited)
    assert (shared.trips, process._books) == (0, {})


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


async def test_changed_limits_hold_from_the_next_request(shared: Shared) -> None:
    """Raised, lowered or lifted: the key's next request is under its new limits; none is under the old."""
    process = shared.process()
    assert await granted(process, limited(requests_per_minute=500, concurrent=100, tokens_per_minute=10**6), 3) == 3
    began = 3 + await granted(process, limited(requests_per_minute=9, concurrent=100), 20)
    assert began <= 9
    assert await granted(process, limited(requests_per_minute=30, concurrent=12), 20) == 12 - began
    assert 10 < await granted(process, limited(requests_per_minute=30, concurrent=100), 50) <= 30 - 12
    assert await granted(process, key_of("carol"), 50) == 50


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
    headers = dict(pairs_in(grant.lines))
    assert headers[b"x-ratelimit-limit-requests"] == b"60"
    assert headers[b"x-ratelimit-limit-tokens"] == b"5000"
    assert headers[b"x-ratelimit-reset-requests"] == b"61s"
    assert headers[b"x-ratelimit-remaining-requests"] == b"59"
    assert headers[b"x-ratelimit-remaining-tokens"] == b"4900"
