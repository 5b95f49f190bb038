"""The recorded answers of vLLM 0.32, asked of the simulated engine: same status, same keys, same types."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reference_stack.schemas.configuration.model import ModelSettings
from tests.reference_stack.ai_models.conftest import serving

DATA = Path(__file__).with_name("data")
PROBES = json.loads((DATA / "vllm-0.32-probes.json").read_text(encoding="utf-8"))
# Of a server with --enable-auto-tool-choice, --tool-call-parser hermes and --enable-prompt-tokens-details.
TOOL_PROBES = json.loads((DATA / "vllm-0.32-tools.json").read_text(encoding="utf-8"))

# What is meant to differ, and why.
DIFFERENT_BODY = {
    "health": "all twelve services of the stack answer /health with the same JSON",
    "version": "it also says that it is a simulation",
}
_VOCABULARY = "the message names the size of the vocabulary, which is a tiny model's in the recording"
DIFFERENT_MESSAGE = {
    "E logit_bias": _VOCABULARY,
    "chat top -1": _VOCABULARY,
    "comp logprobs -1": _VOCABULARY,
    "E regex bad": "the message is that of the grammar library",
    "so structural": "structural tags are refused by name, right or wrong",
}
# Mappings whose keys are tokens or their numbers.
_BY_TOKEN = ("top_logprobs", "prompt_logprobs")


def shape(value: Any, under: str = "") -> Any:
    """Return keys and types; of a list, each shape once, and any token for any other."""
    if isinstance(value, dict) and under in _BY_TOKEN and "token" not in value:
        return distinct([shape(item) for item in value.values()])
    if isinstance(value, dict):
        return {key: shape(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return distinct([shape(item, under) for item in value])
    return type(value).__name__


def events(text: str) -> list[Any]:
    lines = [part.removeprefix("data: ") for part in text.split("\n\n") if part.strip()]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def distinct(shapes: list[Any]) -> list[Any]:
    """Return each shape once, in order: a stream has as many token events as it has tokens."""
    found: list[Any] = []
    for item in shapes:
        if item not in found:
            found.append(item)
    return found


def ask(sim: Any, probe: dict[str, Any]) -> Any:
    request = probe["request"]
    headers = {}
    if probe["tag"] == "E long prompt":
        request = {**request, "messages": [{"role": "user", "content": "hello world " * 2000}]}
    if probe["tag"] == "E wrong content type":
        headers = {"content-type": "text/plain"}
    if probe["tag"] == "request id header":
        headers = {"x-request-id": "abc-123"}
    body = request.encode() if isinstance(request, str) else request
    return sim.request(probe["method"], probe["path"], body, headers)


@pytest.mark.parametrize("probe", PROBES, ids=[probe["tag"] for probe in PROBES])
def test_answers_as_vllm_did(ideal: Any, probe: dict[str, Any]) -> None:
    """Each recorded request gets an answer of the recorded status, content type, keys and types."""
    compare(ask(ideal, probe), probe)


@pytest.fixture(scope="module")
def with_tools() -> Iterator[Any]:
    """A simulated engine that was started like the server of the second recording."""
    settings = {"enable_auto_tool_choice": True, "enable_prompt_tokens_details": True}
    with serving(ModelSettings(service="hermes", device="ideal", max_model_len=2048, **settings)) as sim:
        yield sim


@pytest.mark.parametrize("probe", TOOL_PROBES, ids=[probe["tag"] for probe in TOOL_PROBES])
def test_answers_as_vllm_with_tools_did(with_tools: Any, probe: dict[str, Any]) -> None:
    """The same of a server that parses calls of tools and tells how much of a prompt was cached."""
    compare(ask(with_tools, probe), probe)


def compare(answer: Any, probe: dict[str, Any]) -> None:
    assert answer.status == probe["status"], answer.body
    assert answer.headers.get("allow") == probe["headers"].get("allow")
    if probe["tag"] in DIFFERENT_BODY:
        return
    assert answer.headers.get("content-type") == probe["headers"].get("content-type")
    text = answer.body.decode()
    if probe["headers"].get("content-type", "").startswith("text/event-stream"):
        assert distinct([shape(e) for e in events(text)]) == distinct([shape(e) for e in events(probe["body"])])
    elif not probe["body"]:
        assert text == ""
    elif probe["status"] != 200 and probe["tag"] not in DIFFERENT_MESSAGE:
        assert json.loads(text) == json.loads(probe["body"])
    else:
        assert shape(json.loads(text)) == shape(json.loads(probe["body"]))


def test_recording_is_there() -> None:
    """The recording holds answers and refusals: an empty one would let everything pass."""
    assert sum(probe["status"] == 200 for probe in PROBES) >= 50
    assert sum(probe["status"] >= 400 for probe in PROBES) >= 60
    assert sum("tool_calls" in probe["body"] for probe in TOOL_PROBES) >= 5
