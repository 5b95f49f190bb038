"""Embeddings through the gateway: the same way as completions, to models that have them."""

from __future__ import annotations

import json

import pytest

from tests.reference_stack.infrastructure.conftest import ALICE, Backend, Gateway, MakeGateway, Wire, chat, eventually

EMBEDDINGS = "/v1/embeddings"
VECTORS = {
    "id": "embd-1",
    "object": "list",
    "model": "mixtral",
    "data": [{"index": 0, "object": "embedding", "embedding": [0.6, -0.8]}],
    "usage": {"prompt_tokens": 5, "total_tokens": 5, "completion_tokens": 0},
}


def answers(body: object) -> bytes:
    return json.dumps(body).encode()


@pytest.fixture(params=[True, False], ids=["short way", "FastAPI"])
def embedder(make_gateway: MakeGateway, backend: Backend, request: pytest.FixtureRequest) -> Gateway:
    """A gateway before a model that has embeddings alone."""

    async def vectors(wire: Wire) -> None:
        await wire.answer(answers(VECTORS))

    backend.script = vectors
    upstreams = {"mixtral": {"base_url": backend.url, "routes": ["embeddings"], "cache_salt": False}}
    return make_gateway(upstreams=upstreams, key_rows=ALICE, hot_path=request.param)


def test_vectors_come_back_unchanged(embedder: Gateway) -> None:
    """The model's bytes are the answer, and the usage row has its prompt tokens and no output."""
    body = {"model": "mixtral", "input": ["some words"]}

    reply = embedder.post(body, EMBEDDINGS)

    assert (reply.status_code, reply.content) == (200, answers(VECTORS))
    asked = embedder.backend.asked[0]
    assert (asked.path, asked.json) == (EMBEDDINGS, body)
    row = embedder.usage.last()
    assert (row.route, row.outcome, row.prompt_tokens, row.output_tokens) == (EMBEDDINGS, "complete", 5, 0)


def test_a_model_without_completions_says_so(embedder: Gateway) -> None:
    """A route that the model does not have is refused here, and its server is not asked."""
    reply = embedder.post(chat())

    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "route_not_served")
    assert embedder.backend.asked == []


@pytest.mark.parametrize("body", [{"choices": [{}]}, {"data": []}, {"error": {"message": "secret"}}], ids=str)
def test_what_is_no_vectors_is_a_502(embedder: Gateway, body: object) -> None:
    """An answer of another kind never becomes a 200."""

    async def wrong(wire: Wire) -> None:
        await wire.answer(answers(body))

    embedder.backend.script = wrong

    reply = embedder.post({"model": "mixtral", "input": "x"}, EMBEDDINGS)

    assert (reply.status_code, reply.json()["error"]["code"]) == (502, "upstream_failed")
    assert b"secret" not in reply.content


def test_an_embedder_is_asked_for_a_vector_when_it_failed(make_gateway: MakeGateway, backend: Backend) -> None:
    """The gateway's own question, which brings a server back, is one that the model can answer."""

    async def fails(wire: Wire) -> None:
        await wire.answer(b"{}", 500)

    backend.script = fails
    routing = {"breaker_failures": 1, "breaker_open_s": 0.1, "probe_s": 0.1}
    upstreams = {"mixtral": {"base_url": backend.url, "routes": ["embeddings"]}}
    gateway = make_gateway(upstreams=upstreams, key_rows=ALICE, routing=routing)
    assert gateway.post({"model": "mixtral", "input": "x"}, EMBEDDINGS).status_code == 502

    eventually(lambda: len(backend.asked) > 1)

    assert (backend.asked[1].path, backend.asked[1].json) == (EMBEDDINGS, {"model": "mixtral", "input": "a"})
