"""Searches while the store is down, hung, slow or refuses: 503 or 502, in time, and others are served."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from reference_stack.services.integration.vector_database.client import connect
from reference_stack.services.integration.vector_database.port import Collection
from tests.reference_stack.infrastructure.conftest import DEADLINE_S, eventually
from tests.reference_stack.infrastructure.retrieval_cases import EMPTY, SEARCH, STORE, TIMEOUT_S, Library, error, files
from tests.reference_stack.vector_store import VectorStore


def refused_within(library: Library, within_s: float) -> httpx.Response:
    began = time.monotonic()
    answer = library.search({"query": "canteen"})
    assert time.monotonic() - began < within_s
    assert error(answer) == (503, "retrieval_unavailable", None)
    assert answer.headers["retry-after"] == "1"
    return answer


@pytest.mark.parametrize("how", ["down", "hung", "slow"])
def test_a_store_that_does_not_answer_is_a_503(library: Library, how: str) -> None:
    """Down, hung or slower than the deadline: 503 with Retry-After by the deadline, then at once; others are served."""
    poisons: dict[str, Callable[[], Any]] = {
        "down": lambda: library.toxic("down"),
        "hung": lambda: library.toxic("timeout"),
        "slow": lambda: library.toxic("latency", delay_s=2 * TIMEOUT_S),
    }
    usage = library.gateway.usage
    with poisons[how]():
        for _ in range(2):
            refused_within(library, TIMEOUT_S + 10.0)
        opened = min(took(lambda: refused_within(library, TIMEOUT_S + 10.0)) for _ in range(5))
        assert opened < TIMEOUT_S / 2  # the breaker is open: nobody is asked
        assert usage.last().outcome == "failed"
        assert (
            library.gateway.post({"model": "mixtral", "messages": [{"role": "user", "content": "x"}]}).status_code
            == 200
        )
        health = library.gateway.http.get("/health/ready")
        assert (health.status_code, health.json()["status"]) == (200, "degraded")
        assert health.json()["dependencies"]["vector_database"]
    assert library.gateway.http.get("/health/ready").json()["status"] == "ready"


def took(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def test_a_slow_store_that_makes_it_is_waited_for(library: Library) -> None:
    """Slower than usual and within the deadline is an answer like any other."""
    with library.toxic("latency", delay_s=TIMEOUT_S / 6):
        asked = (library.search({"query": "the canteen"}) for _ in range(1000))
        # On a busy machine some may be later than that.
        answer = next(each for each in asked if each.status_code == 200)
    assert files(answer) == ["canteen", "holidays"]


def test_a_stopped_store_process_is_survived(library: Library) -> None:
    """A store whose process stands still costs the deadline, and is searched again when it goes on."""
    library.store.process.send_signal(signal.SIGSTOP)
    try:
        refused_within(library, TIMEOUT_S + 10.0)
    finally:
        library.store.process.send_signal(signal.SIGCONT)
    eventually(library.well)


def test_too_many_searches_are_refused_at_once(library: Library) -> None:
    """Of many searches of a store that hangs, so many wait as may, and the others are told so at once, by 503."""

    async def flood() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=library.gateway.url, timeout=DEADLINE_S) as client:
            headers = {"authorization": "Bearer key-of-alice"}
            path = SEARCH.format(store=STORE)
            return await asyncio.gather(*(client.post(path, json={"query": "x"}, headers=headers) for _ in range(12)))

    with library.toxic("timeout"):
        answers = asyncio.run(flood())

    codes = [error(answer)[:2] for answer in answers]
    assert set(codes) <= {(503, "overloaded"), (503, "retrieval_unavailable")}
    assert codes.count((503, "overloaded")) >= 1
    assert all(answer.headers["retry-after"] == "1" for answer in answers)


def test_a_store_that_refuses_is_a_502(library: Library) -> None:
    """A collection that is something else is nobody's outage: 502, in no words of the store's."""
    asyncio.run(replaced(library.store))
    try:
        answer = library.search({"query": "x"}, store=EMPTY)
        assert error(answer) == (502, "upstream_failed", None)
        assert "dim" not in answer.text
        assert library.well()
    finally:
        asyncio.run(dropped(library.store))


async def replaced(store: VectorStore) -> None:
    vectors = connect(store.settings)
    await vectors.ensure(Collection(f"hxp_documents_{EMPTY}", 3))
    await vectors.close()


async def dropped(store: VectorStore) -> None:
    vectors = connect(store.settings)
    await vectors.drop(f"hxp_documents_{EMPTY}")
    await vectors.close()
