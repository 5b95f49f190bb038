"""Each tenant's requests carry a salt of their own, so that no tenant meets another's prefixes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reference_stack.services.infrastructure.api_gateway.keys.salt import Salts
from tests.reference_stack.infrastructure.conftest import KEY, PEPPER, PHI3_KEY, MakeGateway, chat, key_of, key_row

SALTS = Salts(PEPPER.encode(), frozenset({"mixtral"}))


@pytest.mark.owasp("LLM02:2025")
def test_a_salt_is_a_tenants_and_tells_nothing() -> None:
    """All keys of a tenant have one salt, other tenants and other peppers another, and it is no word of theirs."""
    red, blue = replace(key_of("a"), tenant="red"), replace(key_of("b"), tenant="blue")
    assert SALTS(red, "mixtral") == SALTS(replace(red, id="other"), "mixtral")
    others = {SALTS(blue, "mixtral"), Salts(b"another pepper" * 2, frozenset({"mixtral"}))(red, "mixtral")}
    assert SALTS(red, "mixtral") not in others
    assert len(SALTS(red, "mixtral")) == 32
    assert SALTS(key_of("a"), "mixtral") == SALTS(red, "phi3") == b""


@pytest.mark.parametrize("stream", [False, True])
def test_the_model_is_told_the_salt(make_gateway: MakeGateway, stream: bool) -> None:
    """The model's server gets the tenant's salt, streaming or not; a client cannot choose its own."""
    gateway = make_gateway(key_rows=(key_row("alice", KEY, tenant="red"), key_row("bob", PHI3_KEY, tenant="blue")))
    assert gateway.post(chat(stream=stream)).status_code == 200
    assert gateway.post(chat(stream=stream), authorization=f"Bearer {PHI3_KEY}").status_code == 200
    salts = [asked.json["cache_salt"] for asked in gateway.backend.asked]
    assert len(set(salts)) == 2
    assert gateway.post(chat(cache_salt="mine")).json()["error"]["code"] == "unknown_parameter"


def test_a_server_that_takes_no_salt_gets_none(make_gateway: MakeGateway) -> None:
    """`cache_salt: false` leaves a model's requests as they are."""
    gateway = make_gateway()
    upstreams = {"mixtral": {"base_url": gateway.backend.url, "cache_salt": False}}
    assert make_gateway(upstreams=upstreams, key_rows=(key_row("alice", KEY, tenant="red"),)).post(chat()).is_success
    assert "cache_salt" not in gateway.backend.asked[0].json
