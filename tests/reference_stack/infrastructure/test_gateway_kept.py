"""Whatever is wrong with the cache of answers, a request is answered by its model."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from reference_stack.schemas.configuration.cache import CacheSettings
from reference_stack.services.infrastructure.api_gateway.asked import CHAT, Asked
from reference_stack.services.infrastructure.api_gateway.call import new_call
from reference_stack.services.infrastructure.api_gateway.events import Usage
from reference_stack.services.infrastructure.api_gateway.keys.answers import SharedAnswers, tenant_of
from reference_stack.services.integration.cache.memory import MemoryCache
from reference_stack.services.integration.cache.responses import ResponseCache
from tests.reference_stack.infrastructure.conftest import key_of

ASKED = Asked("phi3", False, False, b"{}", {"model": "phi3", "temperature": 0})


class Broken(MemoryCache):
    """A client that fails in a way that nobody foresaw."""

    async def get(self, name: str) -> bytes | None:
        raise AttributeError(name)

    async def put(self, name: str, value: bytes, ttl_s: float) -> None:
        raise AttributeError(name, value, ttl_s)


async def test_a_broken_client_is_a_miss_and_a_line(caplog: pytest.LogCaptureFixture) -> None:
    """It is said in the log, names no request, and raises nothing."""
    cache = Broken(CacheSettings())
    answers = SharedAnswers(ResponseCache(cache, 60))
    call = new_call(CHAT, None)
    call.key = replace(key_of("carol"), answers="exact")
    assert answers.wants(call, ASKED)
    assert await asyncio.create_task(answers.find(call, ASKED)) is None
    await answers.keep(call, ASKED, b"answer")
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "a kept answer could not be looked for",
        "an answer could not be kept",
    ]
    await cache.close()


async def test_an_answer_comes_back_with_its_tokens() -> None:
    """The tokens that the model counted come back with the bytes; where it counted none, none do."""
    cache = MemoryCache(CacheSettings())
    answers = SharedAnswers(ResponseCache(cache, 60))
    for usage, answer in ((Usage(7, 3), b"one\ntwo"), (None, b"")):
        call = new_call(CHAT, None)
        call.key = replace(key_of("carol"), answers="exact", tenant=f"{usage}")
        call.usage = usage
        await answers.keep(call, ASKED, answer)
        call.usage = None
        assert await asyncio.create_task(answers.find(call, ASKED)) == answer
        assert call.usage == usage
    await cache.close()


def test_a_name_is_no_tenant() -> None:
    """A key without a tenant cannot meet a tenant that is called as the key is."""
    assert tenant_of(key_of("carol")) != tenant_of(replace(key_of("other"), tenant="carol"))
    assert tenant_of(replace(key_of("a"), tenant="red")) == tenant_of(replace(key_of("b"), tenant="red"))
