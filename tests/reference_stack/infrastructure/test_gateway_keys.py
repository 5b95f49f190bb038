"""Who the gateway lets in, and that it lets nobody in when in doubt."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from functools import partial

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_stack.schemas.api.keys import ApiKey, digest_of
from reference_stack.services.infrastructure.api_gateway.keys.ring import KeyRing
from reference_stack.services.infrastructure.api_gateway.refusal import Refusal
from tests.reference_stack.infrastructure.conftest import (
    ALICE,
    KEY,
    PEPPER,
    PHI3_KEY,
    Gateway,
    MakeGateway,
    chat,
    eventually,
    exchange,
    key_of,
)

WRONG = {
    "none": b"",
    "empty": b"authorization:",
    "scheme alone": b"authorization: Bearer",
    "empty key": b"authorization: Bearer ",
    "another scheme": b"authorization: Basic " + KEY.encode(),
    "no scheme": b"authorization: " + KEY.encode(),
    "wrong": b"authorization: Bearer wrong",
    "prefix": b"authorization: Bearer " + KEY[:-1].encode(),
    "longer": b"authorization: Bearer " + KEY.encode() + b"x",
    "upper case": b"authorization: Bearer " + KEY.upper().encode(),
    "the hash": b"authorization: Bearer " + digest_of(KEY.encode(), PEPPER.encode()).hex().encode(),
    "not ascii": b"authorization: Bearer \xc3\xa9\xff",
    "too long": b"authorization: Bearer " + b"x" * 513,
    "twice": b"authorization: Bearer %s\r\nauthorization: Bearer %s" % (KEY.encode(), KEY.encode()),
    "another header": b"x-api-key: " + KEY.encode(),
}


@pytest.mark.parametrize(
    "route", [b"POST /v1/chat/completions", b"POST /v1/completions", b"GET /v1/models", b"GET /v1/usage"]
)
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_key_is_a_401(gateway: Gateway, name: str, route: bytes) -> None:
    """Every route behind a key refuses what is no valid key, in OpenAI's shape, before it reads the body."""
    head = [route + b" HTTP/1.1", b"host: gateway", *filter(None, [WRONG[name]])]

    status, error = exchange(gateway, head, b"{")

    assert (status, error["type"], error["code"]) == (401, "authentication_error", "invalid_api_key")
    assert gateway.backend.asked == []


def test_the_scheme_is_read_in_any_case(gateway: Gateway) -> None:
    """`bearer` is `Bearer`, as HTTP has it."""
    assert gateway.http.get("/v1/models", headers={"authorization": f"bEaReR {KEY}"}).status_code == 200


@pytest.mark.owasp("API1:2023")
@pytest.mark.parametrize("model", ["mixtral", "no-such-model"])
def test_a_model_that_is_not_the_keys_does_not_exist(gateway: Gateway, model: str) -> None:
    """A model of others and a model that is none get the same answer, which does not repeat the name."""
    body = {**chat(), "model": model}

    reply = gateway.post(body, authorization=f"Bearer {PHI3_KEY}")

    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "model_not_found")
    assert model not in reply.text
    assert gateway.backend.asked == []


def test_health_and_metrics_need_no_key(gateway: Gateway) -> None:
    """What a supervisor and a scraper read is open, and holds no key."""
    for path in ("/health", "/health/live", "/health/ready", "/metrics"):
        # On a busy machine a model's server may answer too late for a moment, which health then tells.
        reply = eventually(partial(_read, gateway, path))
        assert reply is not None
        assert KEY not in reply.text


def _read(gateway: Gateway, path: str) -> httpx.Response | None:
    """Return what who has no key reads there, None while it is not served."""
    reply = gateway.http.get(path, headers={"authorization": ""})
    assert reply.status_code in {200, 503}
    return reply if reply.status_code == 200 else None


@dataclass
class Repository:
    """Keys in memory; counts how often it was asked, and can be out."""

    keys: list[ApiKey] = field(default_factory=list)
    out: bool = False
    asked: int = 0

    async def find_key(self, digest: bytes) -> ApiKey | None:
        self.asked += 1
        if self.out:
            raise ConnectionError("the database is out, says secret")
        return next((key for key in self.keys if key.digest == digest), None)


def test_a_key_of_the_repository_comes_in(make_gateway: MakeGateway) -> None:
    """Keys beside those of the settings come from the repository, with their models."""
    gateway = make_gateway(keys=Repository([key_of("carol", "phi3")]), key_rows=ALICE)

    reply = gateway.http.get("/v1/models", headers={"authorization": "Bearer carol"})

    assert [row["id"] for row in reply.json()["data"]] == ["phi3"]
    assert gateway.http.get("/v1/models", headers={"authorization": "Bearer dave"}).status_code == 401


@pytest.mark.owasp("API2:2023")
def test_with_the_repository_out_nobody_new_comes_in(make_gateway: MakeGateway) -> None:
    """A key that cannot be checked is a 503, never a 200; keys of the settings need no repository."""
    gateway = make_gateway(keys=Repository(out=True), key_rows=ALICE)

    reply = gateway.http.get("/v1/models", headers={"authorization": "Bearer carol"})

    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
    assert "secret" not in reply.text
    assert gateway.http.get("/v1/models").status_code == 200


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def admitted(ring: KeyRing, key: str) -> int:
    """Return the status that `key` gets."""
    with contextlib.suppress(Refusal):
        asyncio.run(ring.admit([b"Bearer " + key.encode()]))
        return 200
    try:
        asyncio.run(ring.admit([b"Bearer " + key.encode()]))
    except Refusal as refusal:
        return refusal.status
    return 200


@pytest.mark.owasp("API2:2023")
def test_a_revoked_key_does_not_outlive_its_time() -> None:
    """A revoked key is out after `fresh_s`; while the repository is out, after `stale_s`."""
    clock, repository = Clock(), Repository([key_of("carol")])
    ring = KeyRing((), PEPPER.encode(), repository, fresh_s=30, stale_s=300, clock=clock)
    assert admitted(ring, "carol") == 200

    repository.out = True
    clock.now_s += 29
    assert (admitted(ring, "carol"), repository.asked) == (200, 1)
    clock.now_s += 200
    assert admitted(ring, "carol") == 200
    clock.now_s += 100
    assert admitted(ring, "carol") == 503

    repository.out = False
    assert admitted(ring, "carol") == 200
    clock.now_s += 31
    assert admitted(ring, "carol") == 200
    repository.keys.clear()
    clock.now_s += 31
    assert admitted(ring, "carol") == 401


def test_guesses_are_asked_for_once_and_forgotten_in_the_end() -> None:
    """A wrong key costs the repository one question in five seconds, and the memory of them is bounded."""
    clock, repository = Clock(), Repository()
    ring = KeyRing((), PEPPER.encode(), repository, clock=clock)

    assert [admitted(ring, "guess") for _ in range(3)] == [401, 401, 401]
    assert repository.asked == 1
    repository.keys.append(key_of("guess"))
    clock.now_s += 6
    assert admitted(ring, "guess") == 200

    async def guess_all() -> None:
        for number in range(10_050):
            with contextlib.suppress(Refusal):
                await ring.admit([b"Bearer x%d" % number])

    asyncio.run(guess_all())
    assert 5_000 <= len(ring._guesses) <= 10_000
    assert (admitted(ring, "guess"), repository.asked) == (200, 10_052)


@pytest.mark.owasp("API2:2023", "API10:2023")
def test_a_repository_that_answers_another_key_lets_nobody_in() -> None:
    """What comes back is compared again: a store that mixes keys up does not open the door."""

    class Mixed(Repository):
        async def find_key(self, digest: bytes) -> ApiKey | None:
            return key_of("carol") if digest else None

    assert admitted(KeyRing((), PEPPER.encode(), Mixed()), "mallory") == 401


@pytest.mark.owasp("API2:2023")
@given(st.binary(max_size=600))
def test_no_bytes_but_the_key_come_in(header: bytes) -> None:
    """Whatever bytes the header holds, they are the key or a 401."""
    ring = KeyRing([key_of(KEY)], PEPPER.encode())

    with pytest.raises(Refusal) as refused:
        asyncio.run(ring.admit([header]))

    assert refused.value.status == 401
