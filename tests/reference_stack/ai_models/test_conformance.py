"""The recorded answers of vLLM 0.32, asked of the simulated engine: same status, same keys, same types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

PROBES = json.loads(Path(__file__).with_name("data").joinpath("vllm-0.32-probes.json").read_text(encoding="utf-8"))

# What is meant to differ, and why.
DIFFERENT_BODY = {
    "health": "all twelve services of the stack answer /health with the same JSON",
    "version": "it also says that it is a simulation",
}
DIFFERENT_MESSAGE = {
    "E logit_bias": "the message names the size of the vocabulary, which is a tiny model's in the recording",
}


def shape(value: Any) -> Any:
    """Return keys and types; of a list, the shape of its first element."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
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
    answer = ask(ideal, probe)

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
    assert sum(probe["status"] == 200 for probe in PROBES) >= 20
    assert sum(probe["status"] >= 400 for probe in PROBES) >= 30
