"""Which parameters reach a model, and with which values."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_stack.schemas.api.keys import ApiKey
from reference_stack.schemas.configuration.api_gateway import LimitSettings
from reference_stack.services.infrastructure.api_gateway.asked import CHAT, COMPLETIONS, Asked, Reader
from reference_stack.services.infrastructure.api_gateway.parameters import chat_parameters, completion_parameters
from reference_stack.services.infrastructure.api_gateway.refusal import Refusal
from tests.reference_stack.infrastructure.conftest import Gateway, chat

LIMITS = LimitSettings()
RULES = {**chat_parameters(LIMITS), **completion_parameters(LIMITS)}
READER = Reader(LIMITS, frozenset({"mixtral"}))
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "p", "schema": {"type": "object"}}}


def read(body: dict[str, object], route: str = CHAT) -> Asked:
    return READER.read(route, json.dumps(body).encode(), ApiKey("a", b"", frozenset("*")))


GOOD: list[dict[str, object]] = [
    {"temperature": 0},
    {"temperature": 2.0},
    {"top_p": 0.01},
    {"top_p": 1},
    {"top_k": -1},
    {"min_p": 0.5},
    {"max_tokens": 1},
    {"max_tokens": 131_072},
    {"max_completion_tokens": 16, "min_tokens": 16},
    {"n": 16},
    {"stop": "x"},
    {"stop": ["x", "y"]},
    {"seed": -(2**63)},
    {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": False}},
    {"presence_penalty": -2, "frequency_penalty": 2, "repetition_penalty": 1.1},
    {"logprobs": True, "top_logprobs": 20},
    {"logit_bias": {"50256": -100}},
    {"ignore_eos": True, "min_tokens": 4, "max_tokens": 4},
    {"user": "me"},
    {"tools": [TOOL], "tool_choice": "auto", "parallel_tool_calls": False},
    {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "weather"}}},
    {"tool_choice": "none"},
    {"response_format": {"type": "json_object"}},
    {"response_format": SCHEMA},
    {"reasoning_effort": "low"},
    {"messages": [{"role": "assistant", "content": None, "tool_calls": [CALL]}]},
    {"messages": [{"role": "tool", "content": "4", "tool_call_id": "1"}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
]


@pytest.mark.parametrize("more", GOOD, ids=str)
def test_what_is_right_passes(more: dict[str, object]) -> None:
    """Every documented parameter is taken at the ends of its range."""
    assert read(chat(**more)).model == "mixtral"


BAD: list[tuple[str, object]] = [
    ("temperature", -0.1),
    ("temperature", 2.1),
    ("temperature", "1"),
    ("temperature", True),
    ("top_p", 0),
    ("top_p", 1.1),
    ("max_tokens", 0),
    ("max_tokens", 1.0),
    ("max_tokens", True),
    ("max_tokens", 131_073),
    ("max_completion_tokens", 0),
    ("n", 0),
    ("n", 17),
    ("seed", 2**63),
    ("stop", ""),
    ("stop", ["x"] * 17),
    ("stop", [1]),
    ("stream", 1),
    ("stream", "true"),
    ("stream_options", {"include_usage": True}),
    ("stream_options", {"x": 1}),
    ("presence_penalty", 2.1),
    ("repetition_penalty", 0),
    ("top_logprobs", 5),
    ("logit_bias", {"x": 1}),
    ("logit_bias", {"1": 101}),
    ("logit_bias", {str(n): 0 for n in range(301)}),
    ("min_tokens", -1),
    ("user", "x" * 513),
    ("tools", []),
    ("tools", [{"type": "function"}]),
    ("tools", [{"type": "function", "function": {"name": "a b"}}]),
    ("tool_choice", "auto"),
    ("tool_choice", "sometimes"),
    ("response_format", {"type": "regex"}),
    ("response_format", {"type": "json_schema", "json_schema": {"name": "p"}}),
    ("messages", []),
    ("messages", "x"),
    ("messages", [{"content": "x"}]),
    ("messages", [{"role": "martian", "content": "x"}]),
    ("messages", [{"role": "user", "content": 1}]),
    ("messages", [{"role": "user", "content": "x", "extra": 1}]),
    ("messages", [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://127.0.0.1"}}]}]),
    ("model", ""),
    ("model", 1),
]


@pytest.mark.parametrize(("name", "value"), BAD, ids=str)
def test_what_is_wrong_is_refused_by_name(name: str, value: object) -> None:
    """A value out of its range is a 400 that names the parameter and not the value."""
    with pytest.raises(Refusal) as refused:
        read({**chat(), name: value})

    assert (refused.value.status, refused.value.code, refused.value.param) == (400, "invalid_value", name)


def test_more_minimum_than_maximum_is_refused() -> None:
    """Tokens that must come and may not come contradict each other."""
    with pytest.raises(Refusal, match="min_tokens"):
        read(chat(min_tokens=5, max_tokens=4))


@pytest.mark.parametrize("name", ["prompt_embeds", "chat_template", "guided_regex", "structured_outputs", "priority"])
def test_what_is_not_known_is_refused(gateway: Gateway, name: str) -> None:
    """A parameter that is not on the list reaches no model, whatever the model would do with it."""
    reply = gateway.post(chat(**{name: "x"}))

    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == name
    assert gateway.backend.asked == []


@pytest.mark.parametrize("name", ["model", "messages"])
def test_what_is_missing_is_named(name: str) -> None:
    """A parameter that must be there and is not, or is null, is a 400."""
    body = chat()
    del body[name]
    for each in (body, {**body, name: None}):
        with pytest.raises(Refusal) as refused:
            read(each)
        assert (refused.value.code, refused.value.param) == ("missing_required_parameter", name)


def test_null_stands_for_absent() -> None:
    """Clients write null for what they leave open."""
    optional = chat_parameters(LIMITS).keys() - {"model", "messages"}

    assert read(chat(**dict.fromkeys(optional))).stream is False


@pytest.mark.parametrize("prompt", ["x", ["x", "y"], [1, 2, 3]])
def test_prompts_of_three_forms_pass(prompt: object) -> None:
    """A text, several, or one of token numbers."""
    assert read({"model": "mixtral", "prompt": prompt, "echo": True, "logprobs": 5}, COMPLETIONS).model == "mixtral"


@pytest.mark.parametrize("prompt", ["", [], [[1]], [""], ["x"] * 17, [-1], [1, "x"], {"x": 1}, 5])
def test_other_prompts_are_refused(prompt: object) -> None:
    """Empty prompts, too many of them, and mixed ones are refused."""
    with pytest.raises(Refusal, match="prompt"):
        read({"model": "mixtral", "prompt": prompt}, COMPLETIONS)


def test_a_chats_parameters_are_not_a_completions() -> None:
    """Each route has its own list."""
    assert {"messages", "tools"} <= chat_parameters(LIMITS).keys() - completion_parameters(LIMITS).keys()
    with pytest.raises(Refusal, match="prompt"):
        read(chat(prompt="x"))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)


@given(st.sampled_from(sorted(RULES)), ANYTHING)
def test_no_value_breaks_a_rule(name: str, value: object) -> None:
    """Every rule answers every value, in under 8 KiB and without repeating it."""
    problem = RULES[name](value)

    assert isinstance(problem, str)
    assert len(problem) < 1000
