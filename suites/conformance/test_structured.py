"""Answers of a given form: JSON, choices, patterns and calls of tools."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from suites.conformance import shapes
from suites.conformance.shapes import differences
from suites.conformance.wire import Server

SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}, "size": {"enum": ["small", "large"]}},
    "required": ["ok", "size"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "weigh", "description": "Weighs.", "parameters": SCHEMA}}
# Warm, so that a model which likes white space does not fill the answer with it.
LONG = {"max_tokens": 300, "temperature": 1.5, "seed": 1}


def called(server: Server, choice: object) -> tuple[dict[str, Any], str]:
    """Ask with a tool and return the call and why the answer ended."""
    answer = server.chat(tools=[TOOL], tool_choice=choice, parallel_tool_calls=False, **LONG).choice()
    [call] = answer["message"]["tool_calls"]
    assert differences(call, shapes.TOOL_CALL) == []
    assert not answer["message"]["content"]
    return call["function"], answer["finish_reason"]


def fits(text: str) -> bool:
    """Whether `text` is JSON of our schema."""
    found = json.loads(text)
    return set(found) == {"ok", "size"} and isinstance(found["ok"], bool) and found["size"] in {"small", "large"}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_schema(server: Server, stream: bool) -> None:
    """With a response_format of json_schema the text is JSON of that schema."""
    wanted = {"type": "json_schema", "json_schema": {"name": "weight", "schema": SCHEMA}}
    answer = server.chat(response_format=wanted, stream=stream, **LONG)
    if stream:
        text = "".join(event["choices"][0]["delta"].get("content") or "" for event in answer.events)
    else:
        text = answer.choice()["message"]["content"]

    assert fits(text)


@pytest.mark.vllm
def test_a_choice(server: Server, path: str) -> None:
    """With structured_outputs of choice the text is one of them."""
    choice = server.ask(path, structured_outputs={"choice": ["yes", "no"]}).choice()

    assert choice.get("text", choice.get("message", {}).get("content")) in {"yes", "no"}
    assert choice["finish_reason"] == "stop"


@pytest.mark.vllm
def test_a_pattern(server: Server) -> None:
    """With structured_outputs of regex the text matches it."""
    text = server.chat(structured_outputs={"regex": "[0-9]{3}-[a-f]{2}"}).choice()["message"]["content"]

    assert re.fullmatch("[0-9]{3}-[a-f]{2}", text)


@pytest.mark.parametrize(
    "fields",
    [
        {"structured_outputs": {"regex": "("}},
        {"response_format": {"type": "json_schema"}},
        {"response_format": {"type": "no such type"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "wibble"}}}},
    ],
    ids=["pattern", "no schema", "type", "schema"],
)
def test_a_form_that_cannot_be(server: Server, fields: dict[str, Any]) -> None:
    """A pattern, a type or a schema that means nothing is 400."""
    answer = server.chat(**fields)

    assert answer.status == 400, answer.text
    assert answer.error["code"] == 400


def test_a_tool_must_be_called(server: Server) -> None:
    """With tool_choice required the answer is a call of it whose arguments are JSON."""
    call, reason = called(server, "required")

    assert call["name"] == "weigh"
    json.loads(call["arguments"])
    assert reason == "tool_calls"


def test_a_named_tool_is_called(server: Server) -> None:
    """With a named tool the answer is a call of it."""
    call, _ = called(server, {"type": "function", "function": {"name": "weigh"}})

    assert call["name"] == "weigh"
    json.loads(call["arguments"])


def test_a_call_is_streamed(server: Server) -> None:
    """A streamed call has its name once, and the pieces of its arguments make JSON."""
    events = server.chat(tools=[TOOL], tool_choice="required", parallel_tool_calls=False, stream=True, **LONG).events
    calls = [call for e in events for call in e["choices"][0]["delta"].get("tool_calls") or ()]
    names = [name for call in calls if (name := call["function"].get("name"))]

    assert names == ["weigh"]
    json.loads("".join(call["function"].get("arguments") or "" for call in calls))
    assert events[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_tools_that_may_not_be_used(server: Server) -> None:
    """With tool_choice none the answer is a text."""
    answer = server.chat(tools=[TOOL], tool_choice="none").choice()

    assert answer["message"]["content"]
    assert not answer["message"].get("tool_calls")


def test_a_tool_that_is_not_there(server: Server) -> None:
    """A named tool that was not offered is 400."""
    answer = server.chat(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "unknown"}})

    assert answer.status == 400, answer.text
