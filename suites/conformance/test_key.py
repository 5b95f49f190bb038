"""Who may ask: with a key, /v1 is closed to all others and the rest stays open."""

from __future__ import annotations

from typing import Any

import pytest

from suites.conformance.wire import CHAT, COMPLETIONS, Server

JSON = {"content-type": "application/json"}


@pytest.fixture(autouse=True)
def _has_a_key(keyed: bool) -> None:
    if not keyed:  # only where --target was given without --api-key-env: our own servers have one
        pytest.skip("the target has no key (--api-key-env)")


@pytest.mark.parametrize(
    "header",
    [
        None,
        "Bearer wrong",
        "Bearer",
        "{key}",
        "Basic {key}",
        "Bearer {key}x",
        "Bearer  {key}",
        "Bearer {key},",
    ],
)
@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/models"), ("POST", CHAT), ("POST", COMPLETIONS)])
def test_a_wrong_key(server: Server, method: str, path: str, header: str | None) -> None:
    """Without the right key every route of /v1 is 401 with vLLM's body, whatever is asked."""
    headers = {} if header is None else {"authorization": header.format(key=server.target.api_key)}
    answer = server.send(method, path, b"{}", JSON | headers, key=False)

    assert (answer.status, answer.json) == (401, {"error": "Unauthorized"})


def test_the_scheme_in_any_case(server: Server) -> None:
    """The word Bearer may be written in small letters."""
    answer = server.send("GET", "/v1/models", headers={"authorization": f"bearer {server.target.api_key}"}, key=False)

    assert answer.status == 200


def test_an_unknown_route_of_v1_is_closed_too(server: Server) -> None:
    """Without the key nobody learns which routes /v1 has."""
    assert server.send("GET", "/v1/nothing", key=False).status == 401


@pytest.mark.vllm
@pytest.mark.parametrize("path", ["/health", "/version", "/metrics", "/load", "/ping"])
def test_the_rest_is_open(server: Server, path: str) -> None:
    """Outside of /v1 no key is asked for."""
    assert server.send("GET", path, key=False).status == 200


@pytest.mark.vllm
def test_tokenize_is_open(server: Server) -> None:
    """/tokenize asks for no key."""
    asked: Any = server.send("POST", "/tokenize", b'{"prompt": "x"}', JSON, key=False)

    assert asked.status == 200
