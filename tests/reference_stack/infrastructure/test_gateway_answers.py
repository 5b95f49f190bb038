"""What a client of the gateway gets when all is well."""

from __future__ import annotations

import re

import pytest

from tests.reference_stack.infrastructure.conftest import (
    ALICE,
    DONE,
    KEY,
    PHI3_KEY,
    TEXTS,
    USAGE_EVENT,
    WHOLE,
    Backend,
    Gateway,
    MakeGateway,
    chat,
)


def test_a_whole_answer_comes_back_as_the_model_sent_it(gateway: Gateway) -> None:
    """The bytes of an answer are the model's, and the usage row says what it cost."""
    reply = gateway.post(chat(max_tokens=3))

    assert (reply.status_code, reply.content) == (200, WHOLE)
    assert reply.headers["content-type"] == "application/json"
    row = gateway.usage.last()
    assert (row.key_id, row.tenant, row.model, row.outcome, row.exact) == ("alice", "red", "mixtral", "complete", True)
    assert (row.prompt_tokens, row.output_tokens, row.stream, row.status) == (7, 3, False, 200)


def test_the_model_gets_the_clients_own_bytes(gateway: Gateway) -> None:
    """The client's bytes reach the model unchanged, spaces and escapes included; the tenant's salt is behind them."""
    body = b'{ "model":"mixtral",\n "messages":[{"role":"user","content":"gr\\u00fc\xc3\x9fe"}], "temperature": 0.10 }'

    assert gateway.post(body).status_code == 200
    sent = gateway.backend.asked[0].body
    assert sent.startswith(body[:-1])
    assert re.fullmatch(rb',"cache_salt":"[0-9a-f]{32}"}', sent.removeprefix(body[:-1]))
    assert gateway.backend.asked[0].path == "/v1/chat/completions"


@pytest.mark.owasp("API7:2023")
def test_only_the_gateways_own_headers_reach_the_model(backend: Backend, make_gateway: MakeGateway) -> None:
    """The client's key and other headers stay at the gateway; the upstream's key is the one it shows."""
    gateway = make_gateway(upstreams={"mixtral": {"base_url": backend.url, "api_key": "upstream-key"}}, key_rows=ALICE)

    assert gateway.post(chat(), cookie="a=b", **{"x-forwarded-for": "10.0.0.1"}).status_code == 200
    assert backend.asked[0].headers["authorization"] == "Bearer upstream-key"
    assert not {"cookie", "x-forwarded-for", "user-agent"} & backend.asked[0].headers.keys()


def test_a_stream_comes_back_byte_for_byte(gateway: Gateway) -> None:
    """With the usage summary asked for, the client gets every byte that the model sent."""
    reply = gateway.post(chat(stream=True, stream_options={"include_usage": True}))

    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.content == b"".join((*TEXTS, USAGE_EVENT, DONE))
    row = gateway.usage.last()
    assert (row.output_tokens, row.outcome, row.status) == (3, "complete", 200)


def test_a_finished_stream_leaves_its_connection_for_the_next(gateway: Gateway) -> None:
    """The model's server is not reconnected to for each request, streams included."""
    for _ in range(5):
        assert gateway.post(chat(stream=True)).content.endswith(DONE)

    # A second one may open while the first still reads the end of its stream.
    assert len({asked.client_port for asked in gateway.backend.asked}) <= 2


@pytest.mark.parametrize("options", [{}, {"stream_options": None}, {"stream_options": {"include_usage": False}}])
def test_a_client_that_did_not_ask_for_usage_gets_none(gateway: Gateway, options: dict[str, object]) -> None:
    """The gateway asks the model for the summary it bills by, and keeps it to itself."""
    reply = gateway.post(chat(stream=True, **options))

    assert reply.content == b"".join((*TEXTS, DONE))
    assert gateway.backend.asked[0].json["stream_options"] == {"include_usage": True}
    row = gateway.usage.last()
    assert (row.prompt_tokens, row.output_tokens, row.exact, row.stream) == (7, 3, True, True)


def test_text_completions_have_their_own_route(gateway: Gateway) -> None:
    """/v1/completions goes to the model's route of the same name."""
    reply = gateway.post({"model": "mixtral", "prompt": "one"}, "/v1/completions")

    assert reply.status_code == 200
    assert gateway.backend.asked[0].path == "/v1/completions"


@pytest.mark.owasp("API1:2023")
@pytest.mark.parametrize(("key", "names"), [(KEY, ["mixtral", "phi3"]), (PHI3_KEY, ["phi3"])])
def test_models_lists_what_the_key_may_use(gateway: Gateway, key: str, names: list[str]) -> None:
    """A key sees its own models and no others."""
    reply = gateway.http.get("/v1/models", headers={"authorization": f"Bearer {key}"})

    assert reply.json()["object"] == "list"
    assert [row["id"] for row in reply.json()["data"]] == names


def test_a_sane_request_id_is_kept(gateway: Gateway) -> None:
    """The client's id comes back and is in the row; the model and the ledger get one that is unique."""
    replies = [gateway.post(chat(), **{"x-request-id": "mine-1"}) for _ in range(2)]

    assert [reply.headers["x-request-id"] for reply in replies] == ["mine-1", "mine-1"]
    gateway.usage.last(2)
    ids = [row.request_id for row in gateway.usage.rows]
    assert len(set(ids)) == 2
    assert ids == [asked.headers["x-request-id"] for asked in gateway.backend.asked]
    assert [row.client_request_id for row in gateway.usage.rows] == ["mine-1", "mine-1"]


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "new\\nline", "<b>"])
def test_another_request_id_is_replaced(gateway: Gateway, given: str) -> None:
    """What is no plain short id is not repeated."""
    found = gateway.http.get("/nowhere", headers={"x-request-id": given}).headers["x-request-id"]

    assert found != given
    assert len(found) == 32


@pytest.mark.owasp("API9:2023")
def test_nothing_else_is_relayed(gateway: Gateway) -> None:
    """A model server's other routes, and the gateway's own documents, are not there."""
    for path in (
        "/tokenize",
        "/v1/responses",
        "/metrics/",
        "/v1/models/",
        "/docs",
        "/openapi.json",
        "/redoc",
        "//v1/models",
    ):
        reply = gateway.http.get(path)
        assert (path, reply.status_code) == (path, 404)
        assert reply.json()["error"]["type"] == "not_found_error"
    assert gateway.http.get("/v1/chat/completions").status_code == 405
    assert gateway.backend.asked == []


@pytest.mark.owasp("API9:2023")
def test_the_documents_open_when_configured(make_gateway: MakeGateway) -> None:
    """`open_docs` serves the gateway's own description."""
    gateway = make_gateway(open_docs=True)

    assert "/v1/chat/completions" in gateway.http.get("/openapi.json").json()["paths"]
    assert gateway.http.get("/docs").status_code == 200


def test_ready_names_the_models(gateway: Gateway) -> None:
    """With its model servers healthy the gateway is ready, and says of which."""
    health = gateway.http.get("/health").json()

    assert health == {"service": "api_gateway", "status": "ready", "dependencies": {"mixtral": "", "phi3": ""}}
