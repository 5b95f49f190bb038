"""The shapes of the API take what the last released ones took; and how that is told."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from reference_stack.schemas.api.export import api_schemas
from reference_stack.schemas.common.compatibility import broken_replies, broken_requests

# Made by: python -m reference_stack.schemas.api.export > tests/reference_stack/schemas/released-1.json
# Until 3.0.0 is released it may be written again; from then on only with a new release.
RELEASED = Path(__file__).with_name("released-1.json")
# What these take of a value is vLLM's to say, as its recorded answers show; that a key is known is ours.
FOLLOW_VLLM = ("chat", "completion", "tokenize_chat", "tokenize_prompt")
KEY_IS_GONE = (
    ": is no longer taken",
    ": is no longer known: it would be ignored",
    ": may be missing where it must be there",
)
AGAIN = "a change that breaks nobody is welcome; one that does needs a new VERSION in schemas/api/export.py"


@pytest.mark.parametrize("direction", ["requests", "replies"])
def test_nothing_that_was_released_is_broken(direction: Any) -> None:
    """Who sends or reads what the last release defined goes on without a change."""
    released = json.loads(RELEASED.read_text(encoding="utf-8"))[direction]
    current = api_schemas()[direction]
    assert set(released) == set(current), "write released-1.json again: a shape that is not in it is held to nothing"
    assert len(released) >= 5
    check = broken_requests if direction == "requests" else broken_replies
    broken = {name: check(old, current[name]) for name, old in released.items()}
    if direction == "requests":
        for name in FOLLOW_VLLM:
            broken[name] = [found for found in broken[name] if found.endswith(KEY_IS_GONE)]
    assert {name: found for name, found in broken.items() if found} == {}, AGAIN


def test_each_schema_is_one() -> None:
    """Every exported schema is valid JSON Schema with a name and a version of its own."""
    names = []
    for schemas in api_schemas().values():
        for schema in schemas.values():
            jsonschema.Draft202012Validator.check_schema(schema)
            names.append(schema["$id"])
    assert len(set(names)) == len(names) >= 10
    assert all(name.startswith("urn:hxp:api:1:") for name in names)


class Base(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field(max_length=5)
    kind: str | None = None
    count: int = 0
    marks: list[float] = []
    by_name: dict[str, int] = {}


def changed(**changes: Any) -> dict[str, Any]:
    """Return the schema of Base with some properties put in another's place; None takes one away."""
    schema = copy.deepcopy(Base.model_json_schema())
    for key, value in changes.items():
        if value is None:
            del schema["properties"][key]
        else:
            schema["properties"][key] = value
    return schema


@pytest.mark.parametrize(
    ("changes", "requests", "replies"),
    [
        ({}, [], []),
        ({"more": {"type": "string"}}, [], []),
        ({"kind": None}, ["$.kind: is no longer taken"], []),
        ({"name": {"type": "string", "maxLength": 9}}, [], ["$.name: maxLength fell to 5"]),
        ({"name": {"type": "string", "maxLength": 3}}, ["$.name: maxLength fell to 3"], []),
        ({"count": {"type": "number"}}, [], ["$.count: number became integer"]),
        ({"count": {"type": "string"}}, ["$.count: integer became string"], ["$.count: string became integer"]),
        ({"kind": {"type": "string"}}, ["$.kind: null became string"], []),
        ({"kind": {"enum": ["a"]}}, ["$.kind: only ['a'] are taken"] * 2, []),
        ({"marks": {"items": {"type": "integer"}, "type": "array"}}, ["$.marks[]: number became integer"], []),
        ({"by_name": {"type": "object"}}, [], ["$.by_name.*: a value of any type became integer"]),
    ],
)
def test_what_breaks_whom(changes: dict[str, Any], requests: list[str], replies: list[str]) -> None:
    """A narrower request breaks who sends it, a wider reply who reads it; the place and the change are named."""
    old, new = changed(), changed(**changes)
    assert broken_requests(old, new) == requests
    assert broken_replies(old, new) == replies


class Open(BaseModel):
    name: str = ""
    anything: dict[str, object] = {}


class Smaller(BaseModel):
    anything: dict[str, object] = {}


def test_what_would_be_ignored_is_broken() -> None:
    """Where unknown keys are ignored, one that was known and is not is a break for who sends it, and for no reader; a
    mapping of anything takes any key.
    """
    old, new = Open.model_json_schema(), Smaller.model_json_schema()
    assert broken_requests(old, new) == ["$.name: is no longer known: it would be ignored"]
    assert broken_replies(new, old) == []
    assert broken_requests(old, {"type": "object", "additionalProperties": True}) == []


def test_what_must_be_there() -> None:
    """A key that becomes required breaks requests, one that ceases to be breaks replies."""
    old, new = changed(), changed()
    new["required"] = ["name", "count"]
    assert broken_requests(old, new) == ["$.count: may be missing where it must be there"]
    assert broken_replies(new, old) == ["$.count: may be missing where it must be there"]


def test_what_cannot_be_compared_is_said() -> None:
    """A word that the comparison does not know is a finding, never passed over."""
    assert broken_requests({"type": "string"}, {"type": "string", "contentEncoding": "x"}) == [
        "$: 'contentEncoding' cannot be compared"
    ]


LEAVES = st.one_of(
    st.sampled_from([{"type": "string"}, {"type": "integer"}, {"type": "number"}, {"type": "null"}, {}]),
    st.builds(lambda low: {"type": "integer", "minimum": low}, st.integers(0, 3)),
    st.builds(lambda most: {"type": "string", "maxLength": most}, st.integers(0, 2)),
    st.builds(lambda values: {"enum": values}, st.lists(st.sampled_from([0, 1, "a", None]), min_size=1, unique=True)),
)


def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    properties = st.dictionaries(st.sampled_from("ab"), inner)
    closed = st.sampled_from([{}, {"additionalProperties": False}, {"additionalProperties": {"type": "integer"}}])
    required = st.lists(st.sampled_from("ab"), unique=True)
    return st.one_of(
        st.builds(
            lambda p, c, r: {"type": "object", "properties": p, "required": r, **c}, properties, closed, required
        ),
        st.builds(lambda i: {"type": "array", "items": i}, inner),
        st.builds(lambda some: {"anyOf": some}, st.lists(inner, min_size=1, max_size=2)),
    )


SCHEMAS = st.recursive(LEAVES, objects, max_leaves=5)
VALUES = st.recursive(
    st.sampled_from([0, 1, 5, 0.5, "", "a", "abc", None]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None, max_examples=300)
@given(old=SCHEMAS, new=SCHEMAS, value=VALUES)
def test_where_nothing_is_broken_every_old_request_is_taken(old: Any, new: Any, value: Any) -> None:
    """Where the comparison finds nothing, the new schema takes what the old one took, says another validator."""
    if jsonschema.Draft202012Validator(old).is_valid(value) and not broken_requests(old, new):
        assert jsonschema.Draft202012Validator(new).is_valid(value)
    assert broken_requests(old, old) == []
