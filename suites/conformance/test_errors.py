"""What is refused, with which status and which body."""

from __future__ import annotations

import json
from typing import Any

import pytest

from suites.conformance import shapes
from suites.conformance.shapes import differences
from suites.conformance.wire import CHAT, COMPLETIONS, Server

BAD, SHAPE, NOT_FOUND = "BadRequestError", "Bad Request", "NotFoundError"
# what is asked for besides -> type and param of the error; None where no field is named
BOTH: list[tuple[dict[str, Any], str, str | None]] = [
    ({"max_tokens": 0}, BAD, "max_tokens"),
    ({"max_tokens": -1}, BAD, "max_tokens"),
    ({"max_tokens": "ten"}, SHAPE, "body.max_tokens"),
    ({"max_tokens": 1.5}, SHAPE, "body.max_tokens"),
    ({"max_tokens": [1]}, SHAPE, "body.max_tokens"),
    ({"temperature": -1}, BAD, "temperature"),
    ({"temperature": 5}, BAD, "temperature"),
    ({"temperature": "hot"}, SHAPE, "body.temperature"),
    ({"top_p": 0}, BAD, "top_p"),
    ({"top_p": 2}, BAD, "top_p"),
    ({"n": 0}, BAD, None),
    ({"n": -1}, BAD, None),
    ({"n": 100_000}, BAD, None),
    ({"n": 1.5}, SHAPE, "body.n"),
    ({"presence_penalty": 3}, BAD, None),
    ({"frequency_penalty": -3}, BAD, None),
    ({"min_tokens": -1}, BAD, None),
    ({"min_tokens": 50}, BAD, None),
    ({"stop": [""]}, BAD, None),
    ({"stop": {"a": 1}}, SHAPE, "body.stop"),
    ({"logit_bias": {"99999999": 5}}, BAD, "logit_bias"),
    ({"stream": "maybe"}, SHAPE, "body.stream"),
    ({"stream_options": {"include_usage": True}}, BAD, "stream_options"),
    ({"seed": 1.5}, SHAPE, "body.seed"),
    ({"ignore_eos": "perhaps"}, SHAPE, "body.ignore_eos"),
    ({"repetition_penalty": 0}, BAD, None),
    ({"top_k": -5}, BAD, None),
    ({"min_p": 2}, BAD, None),
    ({"bad_words": [""]}, BAD, None),
    ({"allowed_token_ids": []}, BAD, "allowed_token_ids"),
    ({"logit_bias": {"x": 1}}, BAD, "logit_bias"),
    ({"truncate_prompt_tokens": -2}, SHAPE, "body.truncate_prompt_tokens"),
    ({"thinking_token_budget": 5}, BAD, None),
]
OF_A_CHAT: list[tuple[dict[str, Any], str, str | None]] = [
    ({"messages": []}, BAD, None),
    ({"messages": "hello"}, SHAPE, "body.messages"),
    ({"messages": None}, BAD, None),
    ({"logprobs": True, "top_logprobs": 99}, BAD, "logprobs"),
    ({"top_logprobs": 2}, BAD, "top_logprobs"),
    ({"tool_choice": "required"}, BAD, "tool_choice"),
    ({"max_completion_tokens": 0}, BAD, "max_tokens"),
    ({"reasoning_effort": "huge"}, SHAPE, "body.reasoning_effort"),
    ({"chat_template": "{{ 1 }}"}, BAD, None),
    ({"add_generation_prompt": True, "continue_final_message": True}, BAD, None),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]}, BAD, None),
]
OF_A_COMPLETION: list[tuple[dict[str, Any], str, str | None]] = [
    ({"prompt": None}, BAD, "prompt"),
    ({"prompt": []}, BAD, None),
    ({"prompt": [[]]}, BAD, None),
    ({"prompt": ""}, BAD, "prompt"),
    ({"prompt": [99_999_999]}, BAD, None),
    ({"logprobs": 99}, BAD, "logprobs"),
    ({"suffix": "x"}, BAD, "suffix"),
    ({"prompt": None, "prompt_embeds": "AAAA"}, BAD, "prompt_embeds"),
]
CASES = [
    *[(CHAT, *case) for case in (*BOTH, *OF_A_CHAT)],
    *[(COMPLETIONS, *case) for case in (*BOTH, *OF_A_COMPLETION)],
]
# A body as bytes -> the param of the error
BODIES: list[tuple[bytes, str | None]] = [
    (b"", "body"),
    (b'{"model": "x", ', "body.15"),
    (b"[1, 2]", "body"),
    (b"7", "body"),
    (b'"text"', "body"),
    (b"null", "body"),
    (b"{'single': 1}", "body.1"),
    (b'{"messages": [}', "body.14"),
]


def name_of(case: tuple[str, dict[str, Any], str, str | None]) -> str:
    return f"{'chat' if case[0] == CHAT else 'completion'} {json.dumps(case[1])}"


@pytest.mark.parametrize(("path", "fields", "kind", "param"), CASES, ids=map(name_of, CASES))
def test_a_wrong_field(server: Server, path: str, fields: dict[str, Any], kind: str, param: str | None) -> None:
    """A field of the wrong type, range or company is 400 with vLLM's error, which says of what kind and which field."""
    asked = dict(fields)
    answer = server.ask(path, **asked)

    assert answer.status == 400, answer.text
    assert differences(answer.json, shapes.ERROR) == []
    assert (answer.error["type"], answer.error["param"], answer.error["code"]) == (kind, param, 400)
    assert answer.error["message"]


@pytest.mark.parametrize("field", ["stop", "bad_words"])
def test_half_a_surrogate_pair(server: Server, path: str, field: str) -> None:
    """A word that no tokenizer can be asked for is a 500 with an empty message, and the server goes on."""
    answer = server.ask(path, **{field: ["\ud800"]})

    assert (answer.status, answer.error["type"], answer.error["message"]) == (500, "InternalServerError", "")
    assert server.ask(path, max_tokens=1).status == 200


@pytest.mark.parametrize(("body", "param"), BODIES, ids=[body.decode() or "empty" for body, _ in BODIES])
def test_a_wrong_body(server: Server, path: str, body: bytes, param: str | None) -> None:
    """A body that is no JSON object is 400, and the error says where it breaks."""
    answer = server.send("POST", path, body, {"content-type": "application/json"})

    assert answer.status == 400, answer.text
    assert differences(answer.json, shapes.ERROR) == []
    assert (answer.error["type"], answer.error["param"]) == (SHAPE, param)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_body_that_is_not_called_json(server: Server, path: str, kind: str) -> None:
    """A body of another content type is 400."""
    answer = server.send("POST", path, b'{"prompt": "x"}', {"content-type": kind} if kind else {})

    assert answer.status == 400, answer.text
    assert answer.error["type"] == SHAPE


def test_a_charset_is_allowed(server: Server) -> None:
    """application/json with a charset is JSON."""
    answer = server.post(
        COMPLETIONS, {"prompt": "x", "max_tokens": 1}, {"content-type": "application/json; charset=utf-8"}
    )

    assert answer.status == 200, answer.text


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_an_unknown_model(server: Server, path: str, stream: bool) -> None:
    """Another model's name is 404 with the name in its message."""
    answer = server.ask(path, model="no-such-model", stream=stream)

    assert answer.status == 404
    assert (answer.error["type"], answer.error["param"], answer.error["code"]) == (NOT_FOUND, "model", 404)
    assert "no-such-model" in answer.error["message"]


@pytest.mark.vllm
@pytest.mark.parametrize("model", [None, ""], ids=["none", "empty"])
def test_no_model_is_the_served_one(server: Server, path: str, model: str | None) -> None:
    """Without a model's name, or with an empty one, the served model answers."""
    answer = server.ask(path, model=model)

    assert answer.status == 200, answer.text
    assert answer.json["model"] == server.target.api_model


@pytest.mark.vllm
def test_unknown_fields_are_ignored(server: Server, path: str) -> None:
    """A field that nobody knows is ignored."""
    plain, answer = server.ask(path), server.ask(path, no_such_field={"a": [1]}, guided_choice=["yes"], best_of=3)

    assert answer.status == 200, answer.text
    assert answer.json["choices"] == plain.json["choices"]


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user"},
        {"role": "user", "content": [{"type": "text", "text": "hello"}]},
        {"role": "assistant", "content": None},
        {"role": "martian", "content": "hello"},
    ],
    ids=["none", "parts", "null of an assistant", "unknown role"],
)
def test_a_message(server: Server, message: object) -> None:
    """A message may be without content, have it in parts, or come from somebody unknown."""
    answer = server.post(CHAT, {"messages": [message], "max_tokens": 1})

    assert answer.status == 200, answer.text


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"role": "user", "content": None}, ".content"),
        ({"role": "user", "content": 7}, ".content"),
        ({"role": 7, "content": "x"}, ".role"),
        ({"content": "x"}, ".role"),
        (7, ""),
    ],
    ids=str,
)
def test_a_wrong_message(server: Server, message: object, field: str) -> None:
    """A message that no type of message allows is 400, and the error says which one and which field of it."""
    answer = server.post(CHAT, {"messages": [{"role": "user", "content": "x"}, message]})

    assert (answer.status, answer.error["type"]) == (400, SHAPE)
    assert str(answer.error["param"]) == f"body.messages.1.ChatCompletionDeveloperMessageParam{field}"


@pytest.mark.parametrize("path", ["/nothing", "/v1/nothing", "/v1/chat", "/v1/models/x"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_route(server: Server, method: str, path: str) -> None:
    """A path that is not there is 404 with FastAPI's body."""
    answer = server.send(method, path)

    assert (answer.status, answer.json) == (404, {"detail": "Not Found"})


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [("GET", CHAT, "POST"), ("GET", COMPLETIONS, "POST"), ("PUT", CHAT, "POST"), ("DELETE", "/v1/models", "GET")],
)
def test_a_wrong_method(server: Server, method: str, path: str, allow: str) -> None:
    """A known path with another method is 405 and says which are allowed."""
    answer = server.send(method, path)

    assert (answer.status, answer.json) == (405, {"detail": "Method Not Allowed"})
    assert answer.headers["allow"] == allow


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "body.prompt"),
        ("/tokenize", {"prompt": 7}, "body.prompt"),
        ("/detokenize", {"tokens": ["a"]}, "body.tokens.0"),
        ("/detokenize", {}, "body.tokens"),
    ],
)
def test_tokens_that_cannot_be(server: Server, path: str, body: object, param: str) -> None:
    """A body that /tokenize or /detokenize cannot read is 400 and says where."""
    answer = server.post(path, body)

    assert answer.status == 400, answer.text
    assert (answer.error["type"], answer.error["param"]) == (SHAPE, param)
