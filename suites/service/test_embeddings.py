"""A stack's model that was started for embeddings, through the stack's gateway."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from hxp_harness.stack import RunningStack


def test_embeddings_go_through_the_gateway(
    start_stack: Callable[..., RunningStack], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one model's settings say so, its gateway serves vectors of it and completions of the others."""
    monkeypatch.setenv("HXP_STACK_PHI3__RUNNER", "pooling")
    door = start_stack("api_gateway", mock=True).target("api_gateway")

    def ask(path: str, body: object) -> httpx.Response:
        headers = {"Authorization": f"Bearer {door.api_key}"}
        return httpx.post(door.base_url + path, json=body, headers=headers, timeout=20, trust_env=False)

    vectors = ask("/embeddings", {"model": "phi3", "input": ["hello", "world"]})
    assert vectors.status_code == 200, vectors.text
    assert len(vectors.json()["data"]) == 2

    chat = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
    assert ask("/chat/completions", {"model": "hermes", **chat}).status_code == 200
    for path, body in (
        ("/embeddings", {"model": "hermes", "input": "x"}),
        ("/chat/completions", {"model": "phi3", **chat}),
    ):
        refused = ask(path, body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "route_not_served")
