"""Calls of tools: who is called, with what, and how a stream tells it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference_stack.schemas.configuration.model import ModelSettings
from reference_stack.services.ai_models.reply import tokenize
from reference_stack.services.ai_models.tools import deltas, make_call
from tests.reference_stack.ai_models.conftest import serving

CITY = {"type": "object", "properties": {"city": {"enum": ["Rome", "Oslo"]}}, "required": ["city"]}
TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "parameters": CITY}},
    {"type": "function", "function": {"name": "get_time"}},
]


@pytest.fixture(scope="module")
def sim() -> Iterator[Any]:
    """Hermes that parses calls of tools."""
    settings = ModelSettings(service="hermes", device="ideal", max_model_len=2048, enable_auto_tool_choice=True)
    with serving(settings) as running:
        yield running


def by_name(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


@pytest.mark.parametrize(
    ("choice", "name", "reason", "text"),
    [
        ("required", "get_weather", "tool_calls", ""),
        (by_name("get_time"), "get_time", "stop", ""),
        ("auto", "get_weather", "tool_calls", None),
        (None, "get_weather", "tool_calls", None),
    ],
)
def test_a_call_has_valid_arguments(sim: Any, choice: Any, name: str, reason: str, text: str | None) -> None:
    """The function is that of the choice, its arguments fit its schema, and the reason is vLLM's."""
    answer = sim.chat("Please get_weather for me", tools=TOOLS, tool_choice=choice, max_tokens=100)
    said = answer.json["choices"][0]
    (call,) = said["message"]["tool_calls"]

    assert (said["finish_reason"], said["message"]["content"]) == (reason, text)
    assert (call["type"], call["function"]["name"]) == ("function", name)
    arguments = json.loads(call["function"]["arguments"])
    assert arguments == {} if name == "get_time" else arguments["city"] in ("Rome", "Oslo")
    assert sim.metric("vllm:request_success_total", finished_reason="stop") >= 1


@pytest.mark.parametrize("choice", ["auto", "none"])
def test_words_where_no_tool_is_wanted(sim: Any, choice: str) -> None:
    """`auto` answers in words where the message names no function, `none` always."""
    said = sim.chat("get_weather" if choice == "none" else "Hello", tools=TOOLS, tool_choice=choice, max_tokens=3)

    assert "tool_calls" not in said.json["choices"][0]["message"]
    assert said.json["choices"][0]["message"]["content"]


def test_a_stream_tells_the_name_then_the_arguments(sim: Any) -> None:
    """The pieces of a stream put together are the call of the whole answer, and the last event says why it ends."""
    fields = {"tools": TOOLS, "tool_choice": "required", "max_tokens": 100}
    whole = sim.chat(**fields).json
    options = {"include_usage": True}
    role, *chunks, end, usage = sim.chat(**fields, stream=True, stream_options=options).events
    parts = [part for chunk in chunks for part in chunk["choices"][0]["delta"]["tool_calls"]]
    (call,) = whole["choices"][0]["message"]["tool_calls"]

    assert role["choices"][0]["delta"]["role"] == "assistant"
    assert parts[0]["function"] == {"name": "get_weather"}
    assert parts[0]["id"].startswith("chatcmpl-tool-")
    assert "".join(part["function"]["arguments"] for part in parts[1:]) == call["function"]["arguments"]
    assert end["choices"][0]["delta"] == {}
    assert end["choices"][0]["finish_reason"] == "tool_calls"
    assert usage["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"] > len(chunks) + 1


def test_a_call_that_is_cut_is_text(sim: Any) -> None:
    """Too few tokens for the call: the reply ends with `length` and holds what there is."""
    said = sim.chat(tools=TOOLS, tool_choice="required", max_tokens=4).json["choices"][0]

    assert said["finish_reason"] == "length"
    assert said["message"]["content"].startswith("<tool_")
    assert "tool_calls" not in said["message"]


def test_a_whole_call_without_its_end_token_is_one(sim: Any) -> None:
    """Where only the end token has no room the call is whole, and the reason is `length`."""
    whole = sim.chat(tools=TOOLS, tool_choice="required", max_tokens=100).json
    tokens = whole["usage"]["completion_tokens"]
    said = sim.chat(tools=TOOLS, tool_choice="required", max_tokens=tokens - 1).json["choices"][0]

    assert said["finish_reason"] == "length"
    assert said["message"]["tool_calls"][0]["function"] == whole["choices"][0]["message"]["tool_calls"][0]["function"]


def test_log_probabilities_tell_every_token_of_a_call(sim: Any) -> None:
    """With log probabilities no token goes untold, those around the call included."""
    fields = {"tools": TOOLS, "tool_choice": "required", "max_tokens": 100, "logprobs": True}
    *_, usage = sim.chat(**fields, stream=True, stream_options={"include_usage": True}).events
    _, *chunks, _ = sim.chat(**fields, stream=True, stream_options={"include_usage": True}).events

    assert len(chunks) == usage["usage"]["completion_tokens"]


PARSER = "vllm:tool_call_parser_invocations_total"


def looks(sim: Any) -> dict[tuple[str, str], float]:
    """Return how often the parser was asked by chats, by mode and outcome."""
    pairs = [(mode, found) for mode in ("streaming", "non_streaming") for found in ("tool_call", "no_tool_call")]
    return {
        (mode, found): sim.metric(PARSER, mode=mode, outcome=found, request_type="chat_completions")
        for mode, found in pairs
    }


def test_the_parser_counts_what_it_was_asked(start: Any) -> None:
    """Once a choice, or once a token of a stream; not for a function that is required, nor where no tool is offered."""
    sim = start("hermes", device="ideal", max_model_len=2048, enable_auto_tool_choice=True)
    rows = [
        line for line in sim.request("GET", "/metrics").body.decode().splitlines() if line.startswith(f"{PARSER}{{")
    ]
    assert len(rows) == 12
    assert all(line.endswith(" 0.0") and "engine=" not in line for line in rows)

    for asked in ({"tool_choice": "required"}, {"tool_choice": "none"}, {"tool_choice": by_name("get_time")}):
        sim.chat("get_weather", tools=TOOLS, max_tokens=100, **asked)
        sim.chat("get_weather", tools=TOOLS, max_tokens=100, stream=True, **asked)
    sim.chat("get_weather", max_tokens=3)
    assert set(looks(sim).values()) == {0.0}

    sim.chat("Please get_weather", tools=TOOLS, max_tokens=100)
    sim.chat("Hello", tools=TOOLS, max_tokens=3, n=2, temperature=1)
    assert looks(sim)["non_streaming", "tool_call"] == 1
    assert looks(sim)["non_streaming", "no_tool_call"] == 2

    options = {"stream": True, "stream_options": {"include_usage": True}}
    *events, usage = sim.chat("Please get_weather", tools=TOOLS, max_tokens=100, **options).events
    told = sum("tool_calls" in choice["delta"] for event in events for choice in event["choices"])
    assert looks(sim)["streaming", "tool_call"] == told > 1
    assert looks(sim)["streaming", "no_tool_call"] == usage["usage"]["completion_tokens"] - told


def test_without_a_parser_nothing_is_counted(ideal: Any) -> None:
    """A server that was not started for calls of tools has no such counter, as vLLM."""
    assert PARSER not in ideal.request("GET", "/metrics").body.decode()


@pytest.mark.parametrize(
    ("choice", "what"), [("required", '"required"'), (by_name("get_time"), '"get_time"'), (None, "auto")]
)
def test_without_a_parser_calls_are_refused(ideal: Any, choice: Any, what: str) -> None:
    """A server that was not started for calls of tools says what it lacks, as vLLM does."""
    answer = ideal.chat(tools=TOOLS, tool_choice=choice)

    assert answer.status == 400
    assert "--tool-call-parser" in answer.error["message"]
    assert what in answer.error["message"]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.from_regex(r"[a-z_]{1,12}", fullmatch=True), st.text(max_size=30)), min_size=1, max_size=3)
)
def test_pieces_of_a_stream_make_the_calls(calls: Sequence[tuple[str, str]]) -> None:
    """Wherever tokens end, each call is announced once, before its arguments, and these come whole and in order."""
    made = [make_call(name, {"text": text}) for name, text in calls]
    tokens = [*tokenize("".join(call.text for call in made)), ""]
    told = [part for delta in deltas(made, tokens) if delta for part in delta["tool_calls"]]

    for index, call in enumerate(made):
        first, *rest = [part for part in told if part["index"] == index]
        assert first["function"] == {"name": call.name}
        assert "".join(part["function"]["arguments"] for part in rest) == call.arguments
    assert [part["index"] for part in told] == sorted(part["index"] for part in told)


@settings(deadline=None)
@given(st.integers(1, 12))
def test_the_name_is_told_with_the_token_that_ends_it(size: int) -> None:
    """Not before its closing quote is there, and not later."""
    text = make_call("get_weather", {}).text
    tokens = [text[at : at + size] for at in range(0, len(text), size)]
    place = next(i for i, delta in enumerate(deltas([make_call("get_weather", {})], tokens)) if delta)

    assert 'get_weather"' in "".join(tokens[: place + 1])
    assert 'get_weather"' not in "".join(tokens[:place])
