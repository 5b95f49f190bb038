"""Limits while nobody can be asked: never endless, and settled afterwards."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from reference_stack.services.infrastructure.api_gateway.keys.limits import LeasedLimits
from reference_stack.services.infrastructure.api_gateway.refusal import Refusal
from tests.reference_stack.infrastructure.limits_cases import Shared, granted, limited, take


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


async def test_without_a_cache_a_process_keeps_its_share(caplog: pytest.LogCaptureFixture) -> None:
    """One process alone needs no cache to keep limits, and says nothing of it."""
    process = LeasedLimits(None, None)
    assert await granted(process, limited(requests_per_minute=7, concurrent=100), 9) == 7
    few = replace(limited(concurrent=2), id="few")
    grants = [await take(process, few) for _ in range(3)]
    assert [isinstance(each, Refusal) for each in grants] == [False, False, True]
    assert isinstance(await take(process, replace(limited(budget_tokens=10), id="paid")), Refusal)
    assert [record.getMessage() for record in caplog.records] == ["budgets cannot be drawn on: there is no database"]


@pytest.mark.parametrize("rests_s", [0.1, 5.0])
async def test_a_cache_that_loses_its_data_is_told_what_was_used(shared: Shared, rests_s: float) -> None:
    """Processes that go on, after a rest or none, bring what they used in the minute: the limit is not had twice."""
    processes = [shared.process(2) for _ in range(2)]
    key = limited(requests_per_minute=1000)
    before = [await granted(process, key, 400) for process in processes]
    assert before == [400, 400]
    shared.now_s += rests_s
    for process in processes:
        for _ in range(3):
            await process.tidy()

    shared.scripts.hashes.clear()

    after = 0
    for _ in range(100):
        for process in processes:
            after += await granted(process, key, 10)
            await process.tidy()
    shares = 2 * 2 * 1000 // 100  # what each may draw before it hears of the loss
    assert 800 + after <= 1000 + shares
    shared.now_s += 62 + 62
    assert await granted(processes[0], key, 1000) == 1000


async def test_what_lapsed_is_not_taken_for_lost(shared: Shared) -> None:
    """A limit that is new again because its minute is over is had whole."""
    process = shared.process()
    key = limited(requests_per_minute=100)
    for _ in range(3):
        assert await granted(process, key, 200) == 100
        shared.now_s += 62
        shared.scripts.hashes.clear()
        await process.tidy()
