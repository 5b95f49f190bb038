"""What clients and operators see of limits: headers, refusals, and settings that cannot be used."""

from __future__ import annotations

import pytest

from reference_stack.errors import SettingsError
from reference_stack.services.infrastructure.api_gateway.cache import cache_at
from tests.reference_stack.infrastructure.conftest import KEY, MakeGateway, chat, key_row


def test_a_client_is_told_of_its_limits(make_gateway: MakeGateway) -> None:
    """Over HTTP: headers with each answer, and a 429 in OpenAI's shape with Retry-After that no row is written for."""
    rows = (key_row("alice", KEY, requests_per_minute=2, tokens_per_minute=100_000),)
    gateway = make_gateway(key_rows=rows)
    told = [gateway.post(chat()) for _ in range(3)]
    assert [reply.status_code for reply in told] == [200, 200, 429]
    assert told[0].headers["x-ratelimit-limit-requests"] == "2"
    assert int(told[0].headers["x-ratelimit-remaining-tokens"]) <= 100_000
    error = told[2].json()["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert 60 <= int(told[2].headers["retry-after"]) <= 62
    assert told[2].headers["x-ratelimit-remaining-requests"] == "0"
    gateway.usage.last(2)
    assert len(gateway.usage.rows) == 2


def test_an_expired_key_of_the_settings_is_out(make_gateway: MakeGateway) -> None:
    """Keys of the settings end with their time too."""
    rows = (key_row("alice", KEY, expires="2020-01-01T00:00:00Z"),)
    assert make_gateway(key_rows=rows).post(chat()).status_code == 401


@pytest.mark.parametrize("url", ["postgresql://127.0.0.1/1", "redis:///1", "redis://127.0.0.1/x", "redis://:sec@h:x"])
def test_a_wrong_cache_url_is_refused_without_repeating_it(url: str) -> None:
    """The URL may hold a password, so the error names the setting and an example."""
    with pytest.raises(SettingsError, match="cache_url") as wrong:
        cache_at(url, 0.02)
    assert url not in str(wrong.value)
