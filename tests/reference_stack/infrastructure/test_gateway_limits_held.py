"""Places for requests at a time, and budgets: held by one process, shared by all, and given back."""

from __future__ import annotations

import asyncio

import pytest

from reference_stack.services.infrastructure.api_gateway.refusal import Refusal
from tests.reference_stack.infrastructure.limits_cases import Shared, granted, limited, take


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


@pytest.mark.owasp("API6:2023")
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
