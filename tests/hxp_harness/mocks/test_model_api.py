"""The mocked model API has the shapes of a real vLLM: recorded answers are the judge."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from hxp_harness.mocks.model_api import ModelApi, install

RECORDED: list[dict[str, Any]] = json.loads((Path(__file__).parent / "data" / "vllm_answers.json").read_text())
WEB = httpx.Client(verify=False)  # one for all: loading certificates takes longer than a test
ROOT = "http://model.test:11400"


@pytest.fixture
def api() -> Iterator[ModelApi]:
    with respx.mock(assert_all_called=False) as router:
        yield install(router, f"{ROOT}/v1", model="hermes2")


def shape(value: object) -> object:
    """Return keys and types; of a list its first item, numbers alike."""
    if isinstance(value, dict):
        return {name: shape(part) for name, part in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return type(value).__name__
    return "number"


def sent(pair: dict[str, Any]) -> httpx.Response:
    """Send a recorded request to the mock, as it was sent to vLLM."""
    request = pair["request"]
    content = request if isinstance(request, str) else None if request is None else json.dumps(request)
    kind = "text/plain" if pair["tag"] == "E wrong content type" else "application/json"
    return WEB.request(pair["method"], ROOT + pair["path"], content=content, headers={"content-type": kind})


def events(text: str) -> list[Any]:
    found = [part.removeprefix("data: ") for part in text.split("\n\n") if part]
    return [each if each == "[DONE]" else json.loads(each) for each in found]


@pytest.mark.parametrize("pair", RECORDED, ids=lambda pair: pair["tag"])
def test_answers_like_vllm(api: ModelApi, pair: dict[str, Any]) -> None:
    """Status, content type, keys, types, and of errors their type, param and code are those of the recorded answer."""
    assert api.model == "hermes2"
    answer = sent(pair)

    assert answer.status_code == pair["status"]
    assert answer.headers.get("content-type", "") == pair["content_type"]
    recorded = pair["body"]
    if isinstance(recorded, list):
        told = events(answer.text)
        assert [shape(each) for each in told[:2] + told[-3:]] == [shape(each) for each in recorded]
        assert told[-1] == "[DONE]"
    elif isinstance(recorded, dict):
        assert shape(answer.json()) == shape(recorded)
        if isinstance(recorded.get("error"), dict):
            wanted = {name: recorded["error"][name] for name in ("type", "param", "code")}
            assert {name: answer.json()["error"][name] for name in wanted} == wanted


def test_recorded_answers_are_many() -> None:
    """The comparison above is over dozens of pairs, refusals and successes."""
    assert len(RECORDED) >= 50
    assert sum(pair["status"] == 400 for pair in RECORDED) >= 25
    assert sum(isinstance(pair["body"], list) for pair in RECORDED) == 3


def test_the_official_types_read_it(api: ModelApi) -> None:
    """What the mock says fits the types of OpenAI's own client, streamed and not."""
    asked = {"messages": [{"role": "user", "content": "one two"}], "max_tokens": 3}
    url = f"{ROOT}/v1/chat/completions"
    whole = ChatCompletion.model_validate_json(WEB.post(url, json=asked).content)
    streaming = asked | {"stream": True, "stream_options": {"include_usage": True}}
    chunks = [ChatCompletionChunk.model_validate(each) for each in events(WEB.post(url, json=streaming).text)[:-1]]
    listed = {"prompt": ["a", "b"], "max_tokens": 2, "echo": True}
    text = Completion.model_validate_json(WEB.post(f"{ROOT}/v1/completions", json=listed).content)

    assert whole.choices[0].message.content == " word word word"
    assert whole.usage is not None
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (2, 3)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == " word word word"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 3
    assert [choice.text for choice in text.choices] == ["a word word", "b word word"]
    assert len(api.requests) == 3


def test_streamed_completions(api: ModelApi) -> None:
    """A streamed text completion has text and counts as it goes."""
    options = {"include_usage": True, "continuous_usage_stats": True}
    body = {"prompt": "a", "max_tokens": 2, "stream": True, "stream_options": options}
    told = events(WEB.post(f"{ROOT}/v1/completions", json=body, headers={"x-request-id": "7"}).text)

    assert [each["usage"]["completion_tokens"] for each in told[:-1]] == [1, 2, 2]
    assert told[0]["choices"][0]["text"] == " word"
    assert told[0]["id"] == "cmpl-7"
    assert api.requests == [body]


def test_a_prompt_over_the_limit_is_refused(api: ModelApi) -> None:
    """A prompt of as many words as the model is long is a 400."""
    answer = WEB.post(f"{ROOT}/v1/completions", json={"prompt": "word " * 2048})
    assert answer.status_code == 400
    assert "maximum context length" in answer.json()["error"]["message"]
    assert api.requests == []


def test_key_guards_v1_alone() -> None:
    """With a key, /v1 answers 401 in vLLM's words and health stays open."""
    with respx.mock(assert_all_called=False) as router:
        install(router, f"{ROOT}/v1", api_key="right")  # pragma: allowlist secret
        assert WEB.get(f"{ROOT}/health").status_code == 200
        for headers in ({}, {"authorization": "Bearer wrong"}):
            answer = WEB.get(f"{ROOT}/v1/models", headers=headers)
            assert (answer.status_code, answer.json()) == (401, {"error": "Unauthorized"})
        assert WEB.get(f"{ROOT}/v1/models", headers={"authorization": "Bearer right"}).status_code == 200


def test_a_broken_mock_answers_nothing_else(api: ModelApi) -> None:
    """While `broken` is set it is the answer to everything, or raised."""
    api.broken = httpx.Response(503)
    assert WEB.get(f"{ROOT}/health").status_code == 503
    api.broken = httpx.ConnectError("gone")
    with pytest.raises(httpx.ConnectError):
        WEB.get(f"{ROOT}/health")
    api.broken = None
    assert WEB.get(f"{ROOT}/health").status_code == 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": "hello"}, "body.messages"),
        ({"n": 1.5}, "body.n"),
        ({"temperature": True}, "body.temperature"),
        ({"stop": ""}, None),
        ({"frequency_penalty": -3}, None),
    ],
)
def test_refusals_beyond_the_recorded(api: ModelApi, body: dict[str, object], param: str | None) -> None:
    """Other wrong types and ranges are refused by the same rules."""
    asked = {"messages": [{"role": "user", "content": "x"}]} | body
    answer = WEB.post(f"{ROOT}/v1/chat/completions", json=asked)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert api.requests == []
