"""Answers kept for keys that opted in, on a real server: the same bytes, marked, and never another tenant's."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from reference_stack.schemas.configuration.cache import CacheSettings
from tests.reference_stack.infrastructure.conftest import (
    TEXTS,
    WHOLE,
    Backend,
    Gateway,
    MakeGateway,
    Wire,
    chat,
    eventually,
    gateways,
    key_row,
    well,
)

KEYS = {"red": "red", "also-red": "red", "blue": "blue", "none": "", "nor-one": "", "off": "red", "sampled": "green"}


@pytest.fixture
def make(tmp_path: Path) -> Iterator[MakeGateway]:
    with Backend() as backend, gateways(backend, tmp_path) as found:
        yield found


@pytest.fixture
def gateway(make: MakeGateway, valkey_server: CacheSettings) -> Gateway:
    """A gateway with keys of several tenants, one of which keeps nothing, and one any answer."""
    modes = {"off": "off", "sampled": "sampled"}
    rows = [key_row(name, name, tenant=tenant, answers=modes.get(name, "exact")) for name, tenant in KEYS.items()]
    return make(key_rows=rows, cache_url=valkey_server.url, cache_s=5.0, answers={"most_bytes": 2000})


def asks(gateway: Gateway, key: str, **body: object) -> httpx.Response:
    reply = gateway.post(chat(**body), authorization=f"Bearer {key}")
    assert reply.status_code == 200
    return reply


def kept(gateway: Gateway, key: str, **body: object) -> httpx.Response:
    """Ask until the answer is one that was kept."""
    found: list[httpx.Response] = []

    def hit() -> bool:
        found.append(asks(gateway, key, **body))
        return found[-1].headers["x-hxp-cache"] == "hit"

    eventually(hit)
    return found[-1]


def fresh() -> dict[str, object]:
    """A request that nobody made before."""
    return {"temperature": 0, "user": uuid.uuid4().hex}


@pytest.mark.parametrize("stream", [False, True])
def test_a_kept_answer_is_the_same_and_said_to_be(gateway: Gateway, stream: bool) -> None:
    """A hit is the miss's bytes, asks no model, and its row says so and has the answer's tokens."""
    asked = fresh() | {"stream": stream}
    first = asks(gateway, "red", **asked)
    assert first.headers["x-hxp-cache"] == "miss"
    again = kept(gateway, "also-red", **asked)
    assert again.content == first.content
    assert again.headers["content-type"] == first.headers["content-type"]
    count = len(gateway.backend.asked)
    assert kept(gateway, "red", **asked).content == first.content
    assert len(gateway.backend.asked) == count
    eventually(lambda: gateway.usage.rows[-1].cached)
    rows = gateway.usage.rows
    assert not rows[0].cached
    assert rows[-1].exact
    assert (rows[-1].prompt_tokens, rows[-1].output_tokens) == (rows[0].prompt_tokens, rows[0].output_tokens)
    assert rows[-1].outcome == "complete"


@pytest.mark.owasp("LLM02:2025", "API1:2023")
def test_nobody_meets_anothers_answers(gateway: Gateway) -> None:
    """Another tenant, another key without one, another route, another parameter: each is a miss of its own."""
    asked = fresh()
    asks(gateway, "red", **asked)
    kept(gateway, "red", **asked)
    assert asks(gateway, "blue", **asked).headers["x-hxp-cache"] == "miss"
    assert asks(gateway, "red", **asked, max_tokens=7).headers["x-hxp-cache"] == "miss"
    asks(gateway, "none", **asked)
    kept(gateway, "none", **asked)
    assert asks(gateway, "nor-one", **asked).headers["x-hxp-cache"] == "miss"


def test_only_what_a_key_opted_in_to_is_kept(gateway: Gateway) -> None:
    """A key of "off" has no such header; of "exact", for temperature 0 alone; of "sampled", always."""
    assert "x-hxp-cache" not in asks(gateway, "off", temperature=0).headers
    for body in ({}, {"temperature": 0.5}):
        assert "x-hxp-cache" not in asks(gateway, "red", **body).headers
    asked = fresh() | {"temperature": 1.5}
    assert asks(gateway, "sampled", **asked).headers["x-hxp-cache"] == "miss"
    kept(gateway, "sampled", **asked)


def test_an_answer_that_broke_off_or_is_large_is_not_kept(gateway: Gateway) -> None:
    """A failed stream is not kept, nor an answer over the bound."""
    asked = fresh() | {"stream": True}

    async def breaks(wire: Wire) -> None:
        await wire.stream(*TEXTS)

    gateway.backend.script = breaks
    assert b"error" in asks(gateway, "red", **asked).content
    gateway.backend.script = well
    large = fresh() | {"messages": [{"role": "user", "content": "x"}]}

    async def much(wire: Wire) -> None:
        await wire.answer(WHOLE + b" " * 2000)

    assert asks(gateway, "red", **asked).headers["x-hxp-cache"] == "miss"
    gateway.backend.script = much
    assert [asks(gateway, "red", **large).headers["x-hxp-cache"] for _ in range(3)] == ["miss"] * 3


def test_with_the_cache_out_answers_are_made(make: MakeGateway) -> None:
    """No cache, no harm: each answer is a miss."""
    row = key_row("red", "red", answers="exact")
    gateway = make(key_rows=[row], cache_url="redis://127.0.0.1:1/0")
    assert [asks(gateway, "red", temperature=0).headers["x-hxp-cache"] for _ in range(5)] == ["miss"] * 5
