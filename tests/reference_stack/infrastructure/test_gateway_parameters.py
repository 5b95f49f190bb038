"""Which parameters reach a model, and with which values."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_stack.schemas.api.keys import ApiKey
from reference_stack.schemas.configuration.api_gateway import LimitSettings
from reference_stack.schemas.configuration.upstream import UpstreamSettings
from reference_stack.services.infrastructure.api_gateway.asked import CHAT, COMPLETIONS, EMBEDDINGS, Asked, Reader
from reference_stack.services.infrastructure.api_gateway.parameters import chat_parameters, completion_parameters
from reference_stack.services.infrastructure.api_gateway.refusal import Refusal
from tests.reference_stack.infrastructure.conftest import Gateway, chat

LIMITS = LimitSettings()
RULES = {**chat_parameters(LIMITS), **completion_parameters(LIMITS)}
MODEL = {"base_url": "http://127.0.0.1:1/v1"}
READER = Reader(LIMITS, {"mixtral": UpstreamSettings.model_validate(MODEL)})
EVERYBODY = ApiKey("a", b"", frozenset("*"))
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "p", "schema": {"type": "object"}}}


def read(body: dict[str, object], route: str = CHAT) -> Asked:
    return READER.read(route, json.dumps(body).encode(), EVERYBODY)


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


@pytest.mark.owasp("API3:2023")
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


@given(
    st.sampled_from(["user", "system", "tool", "nobody", "", None, 1, ["user"]]),
    st.sampled_from(["", "hello", None, 1, {}, [], [{"type": "text", "text": "a"}], [{"type": "text"}]]),
)
def test_the_simplest_messages_are_judged_as_all_others(role: object, content: object) -> None:
    """A null beside role and content changes nothing, though without it most messages are seen to be right at once."""
    message = {"role": role, "content": content}
    assert RULES["messages"]([message]) == RULES["messages"]([{**message, "name": None}])


@pytest.mark.owasp("API3:2023")
@given(st.sampled_from(sorted(RULES)), ANYTHING)
def test_no_value_breaks_a_rule(name: str, value: object) -> None:
    """Every rule answers every value, in under 8 KiB and without repeating it."""
    problem = RULES[name](value)

    assert isinstance(problem, str)
    assert len(problem) < 1000


OWN = {
    "parameters": {
        "top_a": {"kind": "number", "low": 0, "high": 1},
        "lanes": {"kind": "integer", "low": 1, "high": 4},
        "fast": {"kind": "boolean"},
        "mode": {"kind": "one_of", "words": ["thrifty", "eager"]},
        "note": {"kind": "text", "longest": 5},
        "extra": {"kind": "object"},
        "temperature": {"kind": "number", "low": 0, "high": 1},
    }
}
OWN_READER = Reader(
    LIMITS,
    {"mixtral": UpstreamSettings.model_validate(MODEL | OWN), "phi3": UpstreamSettings.model_validate(MODEL)},
)
FURTHER: list[tuple[str, object, object]] = [
    ("top_a", 0.5, 1.5),
    ("lanes", 4, 5),
    ("lanes", 1, 1.5),
    ("fast", True, "yes"),
    ("mode", "eager", "lazy"),
    ("note", "12345", "123456"),
    ("extra", {"a": [1]}, [1]),
    ("temperature", 1, 1.5),
]


@pytest.mark.parametrize(("name", "good", "bad"), FURTHER, ids=str)
def test_a_model_may_take_parameters_of_its_own(name: str, good: object, bad: object) -> None:
    """What the settings name is passed on as it is within its range, and refused by name beyond."""
    body = json.dumps(chat(**{name: good})).encode()
    assert OWN_READER.read(CHAT, body, EVERYBODY).body == body
    with pytest.raises(Refusal) as refused:
        OWN_READER.read(CHAT, json.dumps(chat(**{name: bad})).encode(), EVERYBODY)
    assert (refused.value.code, refused.value.param) == ("invalid_value", name)


@pytest.mark.parametrize("key", [ApiKey("a", b"", frozenset({"phi3"})), ApiKey("a", b"", frozenset("*"))])
def test_only_that_model_takes_them(key: ApiKey) -> None:
    """Another model refuses them, and a key that may not use the model learns nothing of what it takes."""
    model = "mixtral" if key.models == {"phi3"} else "phi3"
    with pytest.raises(Refusal) as refused:
        OWN_READER.read(CHAT, json.dumps(chat(model=model, top_a=0.5)).encode(), key)
    assert (refused.value.code, refused.value.param) == ("unknown_parameter", "top_a")


EMBEDDER = Reader(LIMITS, {"mixtral": UpstreamSettings.model_validate(MODEL | {"routes": ["embeddings"]})})


def embed(**more: object) -> dict[str, object]:
    return {"model": "mixtral", "input": "some words", **more}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"input": ["a", "b"]},
        {"input": [1, 2]},
        {"input": [[1], [2, 3]]},
        {"encoding_format": "base64", "dimensions": 8, "user": "u"},
    ],
    ids=str,
)
def test_embeddings_are_taken(more: dict[str, object]) -> None:
    """Each form of input passes unchanged, and counts no output."""
    body = json.dumps(embed(**more)).encode()
    asked = EMBEDDER.read(EMBEDDINGS, body, EVERYBODY)
    assert (asked.body, asked.stream) == (body, False)
    assert asked.estimated_tokens == asked.estimated_prompt_tokens


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("input", ""),
        ("input", []),
        ("input", [[]]),
        ("input", ["a", 1]),
        ("input", [""]),
        ("input", [-1]),
        ("encoding_format", "bytes"),
        ("dimensions", 0),
    ],
)
def test_bad_embeddings_are_refused(name: str, value: object) -> None:
    """What vLLM refuses, and what is no JSON in the answer, stops here."""
    with pytest.raises(Refusal) as refused:
        EMBEDDER.read(EMBEDDINGS, json.dumps(embed(**{name: value})).encode(), EVERYBODY)
    assert (refused.value.code, refused.value.param) == ("invalid_value", name)


@pytest.mark.parametrize("name", ["stream", "messages", "max_tokens", "cache_salt"])
def test_what_is_no_parameter_of_embeddings_is_unknown(name: str) -> None:
    """Parameters of the other routes are refused by name."""
    with pytest.raises(Refusal) as refused:
        EMBEDDER.read(EMBEDDINGS, json.dumps(embed(**{name: True})).encode(), EVERYBODY)
    assert (refused.value.code, refused.value.param) == ("unknown_parameter", name)


def test_a_route_that_a_model_does_not_have() -> None:
    """A model serves the routes that its settings name, and says so of the others."""
    for reader, route, body in ((READER, EMBEDDINGS, embed()), (EMBEDDER, CHAT, chat())):
        with pytest.raises(Refusal) as refused:
            reader.read(route, json.dumps(body).encode(), EVERYBODY)
        assert (refused.value.status, refused.value.code) == (404, "route_not_served")
