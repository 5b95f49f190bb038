"""The simulated engine over HTTP: streams, choices, pages, its key, connections and settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reference_stack.errors import SettingsError
from reference_stack.schemas.configuration.model import ModelSettings
from reference_stack.services.ai_models.sim_server import create_app


def texts(events: list[Any]) -> list[str]:
    return [event["choices"][0]["delta"]["content"] for event in events if event["choices"]]


def test_a_stream_is_role_tokens_usage_done(ideal: Any) -> None:
    """The role has an event of its own, then each token has one, the last says why, then the usage."""
    options = {"include_usage": True, "continuous_usage_stats": True}
    answer = ideal.chat(stream=True, max_tokens=5, ignore_eos=True, stream_options=options)
    role, *tokens, usage = answer.events

    assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert len(tokens) == 5
    assert all(token["choices"][0]["delta"]["content"] for token in tokens)
    assert [token["usage"]["completion_tokens"] for token in tokens] == [1, 2, 3, 4, 5]
    assert [token["choices"][0]["finish_reason"] for token in tokens] == [None] * 4 + ["length"]
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 5
    assert usage["usage"]["total_tokens"] == usage["usage"]["prompt_tokens"] + 5
    assert usage["system_fingerprint"].startswith("sim-")
    assert answer.headers["x-simulated"] == "no device: steps take no time"


def test_streamed_and_whole_say_the_same(ideal: Any) -> None:
    """The same request gets the same text with and without streaming."""
    whole = ideal.chat("What is a queue?", max_tokens=200)
    streamed = ideal.chat("What is a queue?", max_tokens=200, stream=True)

    assert whole.json["choices"][0]["finish_reason"] == "stop"
    assert "".join(texts(streamed.events)) == whole.json["choices"][0]["message"]["content"]


def test_text_completion_streams(ideal: Any) -> None:
    """A text completion streams without a role, its echo in front; usage counts its prompt."""
    options = {"include_usage": True, "continuous_usage_stats": True}
    answer = ideal.complete("Hello world", stream=True, max_tokens=3, echo=True, stream_options=options)
    *tokens, usage = answer.events

    assert len(tokens) == 3
    assert tokens[0]["choices"][0]["text"].startswith("Hello world")
    assert tokens[0]["usage"] == {"prompt_tokens": 3, "total_tokens": 4, "completion_tokens": 1}
    assert usage["usage"]["prompt_tokens"] == 3


def test_several_choices_and_prompts(ideal: Any) -> None:
    """N and lists of prompts make choices in order, which differ where the temperature lets them."""
    two = ideal.chat(n=2, temperature=1, seed=7, max_tokens=6)
    again = ideal.chat(n=2, temperature=1, seed=7, max_tokens=6)
    lists = ideal.complete(["Hello", "World"], n=2, temperature=1, max_tokens=2)
    numbers = ideal.complete([[1, 2, 3], [4]], max_tokens=2)

    contents = [choice["message"]["content"] for choice in two.json["choices"]]
    assert contents == [choice["message"]["content"] for choice in again.json["choices"]]
    assert contents[0] != contents[1]
    assert [choice["index"] for choice in lists.json["choices"]] == [0, 1, 2, 3]
    assert lists.json["usage"]["prompt_tokens"] == 4
    assert numbers.json["usage"]["prompt_tokens"] == 4


def test_streamed_choices_carry_their_index(ideal: Any) -> None:
    """With n = 2 each event says to which choice it belongs, and both end."""
    answer = ideal.chat(n=2, temperature=1, stream=True, max_tokens=3, ignore_eos=True)
    ends = [e["choices"][0]["index"] for e in answer.events if e["choices"][0]["finish_reason"]]

    assert sorted(ends) == [0, 1]


def test_messages_may_be_lists_of_text_parts(ideal: Any) -> None:
    """Text parts count as their text; anything else is refused."""
    parts = [{"role": "user", "content": [{"type": "text", "text": "Say hi"}]}]
    picture = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]

    answer = ideal.request("POST", "/v1/chat/completions", {"messages": parts, "max_tokens": 1})
    refused = ideal.request("POST", "/v1/chat/completions", {"messages": picture})
    assert answer.json["usage"]["prompt_tokens"] == ideal.chat(max_tokens=1).json["usage"]["prompt_tokens"]
    assert refused.status == 400
    assert refused.error["message"] == "hermes is not a multimodal model"
    number = ideal.request("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": [7]}]})
    assert "text parts" in number.error["message"]


def test_ready_and_live(ideal: Any) -> None:
    """Health has the shape that all services of the stack have; the load is a number."""
    assert ideal.request("GET", "/health/ready").json == {"service": "hermes", "status": "ready", "dependencies": {}}
    assert ideal.request("GET", "/health/live").json == {"service": "hermes", "status": "live"}
    assert ideal.request("GET", "/load").json == {"server_load": 0}
    assert ideal.request("GET", "/version").json["simulated"] is True


def test_tokenize_counts_what_usage_counts(ideal: Any) -> None:
    """/tokenize and the usage of a request agree, for chats and texts."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why, 12345?"}]
    chat = ideal.request("POST", "/tokenize", {"messages": messages, "return_token_strs": True}).json
    text = ideal.request("POST", "/tokenize", {"prompt": "Hello world"}).json
    answer = ideal.request("POST", "/v1/chat/completions", {"messages": messages, "max_tokens": 1})

    assert chat["count"] == len(chat["tokens"]) == len(chat["token_strs"])
    assert chat["count"] == answer.json["usage"]["prompt_tokens"]
    assert text["count"] == ideal.complete("Hello world", max_tokens=1).json["usage"]["prompt_tokens"]


def test_only_v1_asks_for_the_key(start: Any, tmp_path: Path) -> None:
    """With a key, /v1 is closed without it and the rest stays open."""
    file = tmp_path / "key"
    file.write_text("s3cret\n", encoding="utf-8")
    sim = start("phi3", device="ideal", api_key_file=str(file))
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}

    def status(key: str) -> int:
        answer = sim.request("POST", "/v1/chat/completions", body, {"authorization": key})
        return int(answer.status)

    assert sim.request("GET", "/v1/models").status == 401
    assert sim.request("GET", "/v1/models").body == b'{"error":"Unauthorized"}'
    assert status("Bearer s3cret") == 200
    assert [status(key) for key in ("Bearer s3cre", "s3cret", "Bearer sécret", "Basic s3cret")] == [401] * 4
    assert sim.request("GET", "/health").status == 200


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"service": "mixtrel"}, "did you mean 'mixtral'"),
        ({"service": "mixtral", "device": "l40s"}, "smaller precision"),
        ({"service": "phi3", "max_model_len": 5000}, "4096 positions"),
        ({"service": "phi3", "kv_tokens": 100}, "max_model_len to at most 96"),
        # pragma: allowlist nextline secret
        ({"service": "phi3", "api_key_env": "HXP_NO_SUCH_VARIABLE"}, "HXP_NO_SUCH_VARIABLE holds no key"),
        ({"service": "phi3", "api_key_file": "/no/such/file"}, "cannot read the key in /no/such/file"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], message: str) -> None:
    """A model that does not exist or fit, or a key that is not there, stops the start with what to do."""
    with pytest.raises(SettingsError, match=message):
        create_app(ModelSettings(**settings))


@pytest.mark.parametrize("extra", [{"divice": "h200"}, {"device": "tpu"}, {"api_key_env": "A", "api_key_file": "b"}])
def test_misspelt_settings_are_refused(extra: dict[str, Any]) -> None:
    """Unknown keys, unknown devices and two sources of the key are errors."""
    with pytest.raises(ValueError):
        ModelSettings(service="phi3", **extra)
