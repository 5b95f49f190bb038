"""Whatever clients do, in whatever order: no minute has more than the limit, and no moment more than the places."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference_stack.schemas.configuration.cache import CacheSettings
from reference_stack.services.infrastructure.api_gateway.keys.limits import LeasedLimits
from reference_stack.services.infrastructure.api_gateway.ports import Grant
from reference_stack.services.infrastructure.api_gateway.refusal import Refusal
from reference_stack.services.integration.cache.memory import MemoryCache
from tests.reference_stack.infrastructure.limits_cases import Shared, limited, take

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


@pytest.mark.owasp("API4:2023", "LLM10:2025")
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
