"""What the simulated engine refuses over HTTP: bodies, fields and values that vLLM refuses, with its status."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"temperature": float("nan")}, "temperature must be a finite number"),
        ({"min_tokens": -1}, "min_tokens must be greater than"),
        ({"structured_outputs": {"grammar": "root ::= x"}}, "does not support structured_outputs.grammar"),
        ({"structured_outputs": {"regex": r"(a)\1"}}, "does not support groupref in a regex"),
        ({"structured_outputs": {"json": {"not": {}}}}, "does not support 'not' in a JSON schema"),
        ({"temperature": 0, "n": 2}, "n must be 1 when using greedy sampling"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"frequency_penalty": -3}, "frequency_penalty must be in"),
    ],
)
def test_what_cannot_be_served_is_refused(ideal: Any, fields: dict[str, object], message: str) -> None:
    """Values out of range, and features that the simulation lacks, are a 400 that names them."""
    answer = ideal.chat(**fields)

    assert answer.status == 400
    assert message in answer.error["message"]


@pytest.mark.parametrize(
    "raw",
    [b"{", b"\xff\xfe", b'{"messages": ["\\ud800"]}', b"NaN", b'{"messages": NaN}', b'"text"'],
    ids=["cut", "not UTF-8", "surrogate", "NaN", "NaN inside", "string"],
)
def test_bad_bodies_are_400(ideal: Any, raw: bytes) -> None:
    """No body, however broken, is a 500."""
    answer = ideal.request("POST", "/v1/chat/completions", raw)

    assert answer.status == 400
    assert answer.error["code"] == 400


@pytest.mark.parametrize("raw", [b'"\xff"', b"[" * 100_000, b"1" * 5000], ids=["not UTF-8", "deep", "digits"])
def test_bodies_that_no_parser_takes(ideal: Any, raw: bytes) -> None:
    """What JSON's parser gives up on is a 400 with FastAPI's own body, as from vLLM."""
    answer = ideal.request("POST", "/v1/chat/completions", raw)

    assert (answer.status, answer.json) == (400, {"detail": "There was an error parsing the body"})


@pytest.mark.parametrize("path", ["/v1/completions/", "/health/", "/v1/models/"])
def test_a_slash_too_many_is_led_to_the_page(ideal: Any, path: str) -> None:
    """A known path with a slash at its end is 307 to the page itself."""
    answer = ideal.request("GET", path)

    assert answer.status == 307
    assert answer.headers["location"] == f"http://127.0.0.1:{ideal.port}{path[:-1]}"


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("/v1/chat/completions", {"messages": 7}, None),
        ("/v1/chat/completions", {"tool_choice": "x", "tools": [{"function": {"name": "f"}}]}, "tool_choice"),
        ("/v1/chat/completions", {"tool_choice": {"x": 1}, "tools": []}, "tools"),
        ("/v1/chat/completions", {"tool_choice": {"x": 1}, "tools": [7]}, "tool_choice.function"),
        ("/v1/chat/completions", {"tool_choice": {"function": {}}, "tools": [7]}, "tool_choice.function.name"),
        ("/v1/chat/completions", {"logprobs": True, "top_logprobs": "2"}, "top_logprobs"),
        ("/v1/chat/completions", {"logprobs": True, "top_logprobs": -2}, "top_logprobs"),
        ("/v1/chat/completions", {"stream": True, "prompt_logprobs": 1}, "prompt_logprobs"),
        ("/v1/chat/completions", {"cache_salt": 7}, "cache_salt"),
        ("/v1/chat/completions", {"cache_salt": "a/b"}, "cache_salt"),
        ("/v1/chat/completions", {"cache_salt": "\ud800"}, "body.cache_salt"),
        ("/v1/chat/completions", {"max_completion_tokens": 10**9}, "max_completion_tokens"),
        ("/v1/chat/completions", {"model": "\ud800"}, None),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "\ud800"}]}, None),
        ("/v1/completions", {"logprobs": "2"}, "logprobs"),
        ("/v1/completions", {"prompt": "\ud800"}, None),
        ("/v1/completions", {"prompt": [-1]}, "body.prompt.0"),
        ("/v1/completions", {"n": None}, "body.n"),
        ("/v1/completions", {"seed": 2**63}, "body.seed"),
        ("/v1/completions", {"user": 7}, "body.user"),
        ("/v1/completions", {"suffix": ""}, "suffix"),
    ],
)
def test_what_is_looked_at_before_the_types(
    ideal: Any, path: str, fields: dict[str, object], param: str | None
) -> None:
    """Mistakes that generated requests found are refused as vLLM refuses them, with its field named."""
    good: dict[str, object] = {"messages": [{"role": "user", "content": "x"}], "prompt": "x"}
    answer = ideal.request("POST", path, good | fields)

    assert (answer.status, answer.error["param"]) == (400, param), answer.body


@pytest.mark.parametrize(
    "message", [{}, {"role": 7, "content": "x"}, {"content": "x"}, {"role": "user", "content": 7}, 7]
)
def test_a_message_of_no_kind(ideal: Any, message: object) -> None:
    """A message that is none of vLLM's kinds is refused with its place."""
    answer = ideal.request("POST", "/v1/chat/completions", {"messages": [message]})

    assert answer.status == 400
    assert answer.error["param"].startswith("body.messages.0.ChatCompletionDeveloperMessageParam")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": 7}, "body.prompt"),
        ({"messages": [{}]}, "body.prompt"),
        ({"messages": [], "add_special_tokens": "x"}, "body.prompt"),
        ({"messages": [], "model": 7}, "body.model"),
    ],
)
def test_a_conversation_that_cannot_be_counted(ideal: Any, fields: dict[str, object], param: str) -> None:
    """/tokenize tells of a conversation that it cannot read what vLLM tells."""
    answer = ideal.request("POST", "/tokenize", fields)

    assert (answer.status, answer.error["param"]) == (400, param)


def test_an_empty_token_under_a_parser(start: Any) -> None:
    """With calls of tools parsed, the end token of a stream has an empty delta; without, an empty text."""
    for parses, delta in ((True, {}), (False, {"content": ""})):
        sim = start("hermes", device="ideal", enable_auto_tool_choice=parses)
        assert sim.chat(stream=True).events[-1]["choices"][0]["delta"] == delta

    assert sim.chat(stream=True).events[-1]["choices"][0]["finish_reason"] == "stop"


def test_long_values_are_not_repeated(ideal: Any) -> None:
    """An error does not echo a long value back."""
    answer = ideal.chat(max_tokens="9" * 4000 + "x")

    assert answer.status == 400
    assert len(answer.body) < 1000


@pytest.mark.parametrize("fields", [{"stop": "\ud800"}, {"bad_words": ["\ud800"]}, {"top_k": 2**64}])
def test_what_does_not_reach_the_engine_is_an_error_of_the_server(ideal: Any, fields: dict[str, object]) -> None:
    """Half a surrogate pair and a number of more than 64 bits are 500 with an empty message, as in vLLM."""
    answer = ideal.chat(**fields)

    assert (answer.status, answer.error["type"], answer.error["message"]) == (500, "InternalServerError", "")
