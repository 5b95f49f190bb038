"""No body, however odd its fields, gets anything but an answer or a refusal: never a 500, never a hang."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference_stack.schemas.configuration.model import ModelSettings
from tests.reference_stack.ai_models.conftest import serving

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 60) | st.floats(width=16) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
WORD = st.sampled_from(["string", "integer", "number", "object", "array", "null", "boolean", "wibble", 3, None])
KEYWORD = st.sampled_from(
    [
        "type",
        "properties",
        "required",
        "items",
        "enum",
        "const",
        "anyOf",
        "oneOf",
        "allOf",
        "$ref",
        "pattern",
        "format",
        "minLength",
        "maxLength",
        "minimum",
        "maximum",
        "multipleOf",
        "minItems",
        "maxItems",
        "prefixItems",
        "not",
    ]
)
SCHEMA = st.recursive(
    st.fixed_dictionaries({"type": WORD}) | JSON,
    lambda inner: st.dictionaries(KEYWORD, inner | JSON | st.lists(inner, max_size=2), max_size=4),
    max_leaves=8,
)
REGEX = st.text("ab01()[]{}*+?|^$.\\-,dwsbBAZ", max_size=10)
TOOL = st.fixed_dictionaries(
    {
        "type": st.just("function"),
        "function": st.fixed_dictionaries({"name": st.text(max_size=4), "parameters": SCHEMA}),
    }
)
CALLED = st.sampled_from(["auto", "none", "required", "never", {"type": "function", "function": {"name": "a"}}])
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "structured_outputs": st.fixed_dictionaries(
        {},
        optional={
            "json": SCHEMA,
            "regex": REGEX,
            "choice": JSON,
            "grammar": st.text(max_size=4),
            "json_object": st.booleans(),
        },
    ),
    "response_format": st.fixed_dictionaries(
        {"type": st.sampled_from(["text", "json_object", "json_schema", "yaml"])},
        optional={"json_schema": st.fixed_dictionaries({"name": st.just("n"), "schema": SCHEMA})},
    ),
    "tools": st.lists(TOOL, max_size=2) | JSON,
    "tool_choice": CALLED | JSON,
    "hxp_script": st.fixed_dictionaries(
        {},
        optional={
            "reply": st.text(max_size=5) | st.lists(st.text(max_size=3), max_size=4) | JSON,
            "tool_calls": JSON,
            "fault": st.sampled_from([{"kind": "error"}, {"kind": "abort", "at_token": 1}]) | JSON,
        },
    ),
    "logprobs": st.booleans() | st.integers(-3, 25) | JSON,
    "top_logprobs": st.integers(-3, 25),
    "prompt_logprobs": st.integers(-3, 25),
    "echo": st.booleans() | JSON,
    "n": st.integers(-1, 3),
    "stop": JSON,
    "max_tokens": st.integers(-1, 8) | JSON,
    "return_token_ids": st.booleans() | JSON,
    "stream_options": JSON,
    "cache_salt": JSON,
    "logit_bias": JSON,
}
BODY = st.lists(st.sampled_from(sorted(FIELDS)), max_size=5, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: FIELDS[name] for name in names})
)


@pytest.fixture(scope="module")
def sim() -> Iterator[Any]:
    """A simulated engine with everything allowed."""
    settings = {"enable_auto_tool_choice": True, "allow_scripts": True, "enable_prompt_tokens_details": True}
    with serving(ModelSettings(service="hermes", device="ideal", max_model_len=512, **settings)) as running:
        yield running


@settings(deadline=None, max_examples=400)
@given(BODY, st.booleans(), st.booleans())
def test_an_odd_body_is_answered_or_refused(sim: Any, body: dict[str, Any], chat: bool, stream: bool) -> None:
    """Whatever stands in the fields of a request: 200, or 400 with an error that has a message."""
    answer = (sim.chat if chat else sim.complete)(**{"max_tokens": 6, **body, "stream": stream})

    if answer.status == 500:
        assert "EngineCore encountered an issue" in answer.error["message"]  # asked for by a script
    elif answer.status != 200:
        assert answer.status == 400, answer.body
        assert answer.error["message"]
    elif stream:
        assert answer.events
    else:
        assert answer.json["choices"]
