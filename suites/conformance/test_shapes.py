"""Every answer has vLLM's fields, all of them and no others, with their types."""

from __future__ import annotations

from typing import Any

import pytest

from suites.conformance import shapes
from suites.conformance.shapes import differences
from suites.conformance.wire import CHAT, COMPLETIONS, Answer, Server

pytestmark = pytest.mark.vllm
COUNTED = {"include_usage": True, "continuous_usage_stats": True}
LONG = {"max_tokens": 4, "ignore_eos": True}


def same(answer: Answer, shape: Any) -> None:
    assert answer.status == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert differences(answer.json, shape) == []


def test_chat_completion(server: Server) -> None:
    """A whole chat completion has exactly vLLM's fields."""
    same(server.chat(**LONG), shapes.chat())


def test_text_completion(server: Server) -> None:
    """A whole text completion has exactly vLLM's fields."""
    same(server.complete(**LONG), shapes.completion())


def test_chat_logprobs(server: Server) -> None:
    """Log-probabilities of a chat are token, value, bytes and alternatives for each token."""
    same(server.chat(logprobs=True, top_logprobs=2, **LONG), shapes.chat(logprobs=shapes.CHAT_LOGPROBS))


def test_text_logprobs(server: Server) -> None:
    """Log-probabilities of a text completion are four lists of equal length."""
    same(server.complete(logprobs=2, **LONG), shapes.completion(logprobs=shapes.TEXT_LOGPROBS))


@pytest.mark.parametrize("counted", [False, True], ids=["", "counted"])
@pytest.mark.parametrize(("path", "kind"), [(CHAT, "chat"), (COMPLETIONS, "completion")], ids=["chat", "completion"])
def test_stream_events(server: Server, path: str, kind: str, counted: bool) -> None:
    """Each event of a stream has exactly vLLM's fields: the role's, a token's, the last token's and the usage's."""
    options = {"stream_options": COUNTED} if counted else {}
    events = server.ask(path, stream=True, **LONG, **options).events
    if kind == "chat":
        assert differences(events.pop(0), shapes.role_event(counted=counted)) == []
    if counted:
        assert differences(events.pop(), shapes.usage_event(kind)) == []
    assert len(events) >= 2
    for event in events[:-1]:
        assert differences(event, shapes.token_event(kind, counted=counted)) == []
    assert differences(events[-1], shapes.token_event(kind, last=True, counted=counted, signed=not counted)) == []


def test_models(server: Server) -> None:
    """The list of models has exactly vLLM's fields, and names the model that is served."""
    answer = server.get("/v1/models")

    same(answer, shapes.MODELS)
    assert server.target.api_model in [row["id"] for row in answer.json["data"]]


@pytest.mark.parametrize("strings", [False, True])
def test_tokenize_prompt(server: Server, strings: bool) -> None:
    """/tokenize counts and numbers the tokens of a text, and spells them where that is asked for."""
    answer = server.post("/tokenize", {"prompt": "Hello world", "return_token_strs": strings})

    same(answer, shapes.tokens([str] if strings else None))
    assert answer.json["count"] == len(answer.json["tokens"]) >= 2


def test_tokenize_chat(server: Server) -> None:
    """/tokenize takes a conversation, and counts its template."""
    messages = [{"role": "user", "content": "Hello world"}]
    answer = server.post("/tokenize", {"messages": messages})
    text = server.post("/tokenize", {"prompt": "Hello world"})

    same(answer, shapes.tokens())
    assert answer.json["count"] > text.json["count"]


def test_detokenize(server: Server) -> None:
    """/detokenize gives back the text whose tokens /tokenize gave."""
    numbers = server.post("/tokenize", {"prompt": "Hello world", "add_special_tokens": False}).json["tokens"]
    answer = server.post("/detokenize", {"tokens": numbers})

    same(answer, {"prompt": str})
    assert answer.json["prompt"] == "Hello world"


def test_health(server: Server) -> None:
    """/health of a server that serves is 200 and empty."""
    answer = server.get("/health")

    assert (answer.status, answer.body) == (200, b"")


def test_ping(server: Server) -> None:
    """/ping is 200 by GET and by POST."""
    assert [server.send(method, "/ping").status for method in ("GET", "POST")] == [200, 200]


def test_version(server: Server) -> None:
    """/version has the version, and nothing else."""
    same(server.get("/version"), {"version": str})


def test_load(server: Server) -> None:
    """/load is one number, 0 when nobody is served."""
    answer = server.get("/load")

    same(answer, {"server_load": int})
    assert answer.json["server_load"] == 0


def test_request_id(server: Server) -> None:
    """The client's X-Request-Id is part of the answer's id."""
    answer = server.chat()
    named = server.post(
        CHAT, {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1}, {"x-request-id": "a-7"}
    )

    assert answer.json["id"].startswith("chatcmpl-")
    assert named.json["id"] == "chatcmpl-a-7"
    assert server.complete().json["id"].startswith("cmpl-")


def test_streams_have_one_id(server: Server, path: str) -> None:
    """All events of a stream have the same id, model and time of creation."""
    events = server.ask(path, stream=True).events

    assert len({(event["id"], event["model"], event["created"]) for event in events}) == 1
    assert events[0]["model"] == server.target.api_model
