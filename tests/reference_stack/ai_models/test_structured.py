"""Structured output: what is said satisfies what was asked, and what cannot be promised is refused by name."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference_stack.services.ai_models.api_error import ApiError
from reference_stack.services.ai_models.pattern import matching
from reference_stack.services.ai_models.schema import instance

PATTERNS = [
    r"[0-9]{3}-[0-9]{4}",
    r"(yes|no|may(be)?)",
    r"^[A-Z]\w*\.$",
    r"[^a-z\s]+",
    r"\d{4}-\d\d-\d\dT\d\d:\d\d",
    r"a*?b+x{2,}",
    r"(?:ab){2}.\S\D\W",
    r"[äöü]ß",
    r"(?>ab|cd)",
    r"",
    r"[^\W\d]",
    r"[é-ñ]+",
]


@settings(deadline=None)
@given(st.sampled_from(PATTERNS), st.integers(0, 10_000))
def test_text_matches_its_pattern(pattern: str, seed: int) -> None:
    """Every draw of a pattern is matched by it, whole, as Python reads the pattern."""
    assert re.fullmatch(pattern, matching(pattern, random.Random(seed)))


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", 'Grammar error: invalid regex "\\("'),
        ("a{99999999999}", "invalid regex"),
        ("(?=a)a", "assert in a regex"),
        ("(a{1000}){1000}", "longer than 20000 characters"),
        (r"a\Bb", "an anchor inside a regex"),
        (r"(((a*)*)*)*ab^", "an anchor inside a regex"),
        (r"(((a*)*)*)*$b", "an anchor inside a regex"),
        (r"(?P<a>x){2}(?(a)y|z)", "groupref_exists in a regex"),
        ("[^\x00-\U0010ffff]", "without printable letters"),
    ],
)
def test_patterns_that_cannot_be_promised_are_refused(pattern: str, message: str) -> None:
    """A broken pattern, and one beyond what is understood, is an error that says which."""
    with pytest.raises(ApiError, match=message):
        matching(pattern, random.Random(1))


def accepts(schema: Any, value: Any) -> bool:
    """Whether `value` satisfies `schema`: written from the specification, for the keywords drawn below."""
    if isinstance(schema, bool):
        return schema
    if "anyOf" in schema:
        return any(accepts(one, value) for one in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return value in schema.get("enum", [schema.get("const")])
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return any(KINDS[kind](schema, value) for kind in kinds)


def between(schema: Any, low: str, high: str, value: float) -> bool:
    return bool(schema.get(low, -math.inf) <= value <= schema.get(high, math.inf))


def is_object(schema: Any, value: Any) -> bool:
    known, rest = schema.get("properties", {}), schema.get("additionalProperties", True)
    return (
        isinstance(value, dict)
        and set(schema.get("required", [])) <= set(value)
        and all(accepts(known.get(name, rest), item) for name, item in value.items())
    )


def is_array(schema: Any, value: Any) -> bool:
    first, rest = schema.get("prefixItems", []), schema.get("items", True)
    return (
        isinstance(value, list)
        and between(schema, "minItems", "maxItems", len(value))
        and all(accepts(first[i] if i < len(first) else rest, item) for i, item in enumerate(value))
    )


def is_string(schema: Any, value: Any) -> bool:
    return (
        isinstance(value, str)
        and between(schema, "minLength", "maxLength", len(value))
        and re.search(schema.get("pattern", ""), value) is not None
    )


def is_number(schema: Any, value: Any) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and between(schema, "minimum", "maximum", value)
        and schema.get("exclusiveMinimum", -math.inf) < value < schema.get("exclusiveMaximum", math.inf)
        and value % schema.get("multipleOf", value or 1) == 0
    )


KINDS: dict[str, Callable[[Any, Any], bool]] = {
    "object": is_object,
    "array": is_array,
    "string": is_string,
    "number": is_number,
    "integer": lambda schema, value: isinstance(value, int) and is_number(schema, value),
    "boolean": lambda _schema, value: isinstance(value, bool),
    "null": lambda _schema, value: value is None,
}


def spans(low: str, high: str) -> st.SearchStrategy[dict[str, Any]]:
    """Draw a lower and an upper bound, either or none, that leave something between them."""
    pairs = st.tuples(st.integers(0, 12), st.integers(2, 9)).map(lambda pair: {low: pair[0], high: pair[0] + pair[1]})
    return pairs.flatmap(lambda both: st.sampled_from([both, {low: both[low]}, {high: both[high]}, {}]))


LEAVES = st.one_of(
    spans("minLength", "maxLength").map(lambda span: {"type": "string", **span}),
    spans("minimum", "maximum").map(lambda span: {"type": "integer", **span}),
    spans("exclusiveMinimum", "exclusiveMaximum").map(lambda span: {"type": "integer", **span}),
    spans("minimum", "maximum").map(lambda span: {"type": "number", **span}),
    spans("exclusiveMinimum", "exclusiveMaximum").map(lambda span: {"type": "number", **span}),
    st.integers(1, 9).map(lambda unit: {"type": "integer", "multipleOf": unit, "maximum": -3}),
    st.sampled_from(
        [
            {"type": "boolean"},
            {"type": ["null", "integer"]},
            {"enum": ["a", 2, None]},
            {"type": "string", "enum": ["x"]},
            {"const": {"k": 1}},
            {"type": "string", "pattern": "[0-9]{3}"},
            {"type": "number", "minimum": 2, "maximum": 2},
        ]
    ),
)
NAMES = st.sampled_from(["city", "days", "wind", 'ä "quoted"'])
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.dictionaries(NAMES, inner, max_size=3).map(
            lambda known: {
                "type": "object",
                "properties": known,
                "required": list(known)[:1],
                "additionalProperties": False,
            }
        ),
        st.tuples(spans("minItems", "maxItems"), inner).map(
            lambda pair: {"type": "array", "items": pair[1], **pair[0]}
        ),
        st.lists(inner, min_size=1, max_size=3).map(lambda all_: {"anyOf": all_, "title": "one of"}),
        st.lists(inner, min_size=1, max_size=3).map(
            lambda all_: {"type": "array", "prefixItems": all_, "items": False}
        ),
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(SCHEMAS, st.integers(0, 1000))
def test_a_value_satisfies_its_schema(schema: dict[str, Any], seed: int) -> None:
    """Whatever is asked for in keywords that are understood, the value has, and it is JSON."""
    value = instance(schema, random.Random(seed))

    assert accepts(schema, value), value
    assert json.loads(json.dumps(value)) == value


def test_a_recursive_schema_ends() -> None:
    """A tree of itself is made a few levels deep."""
    node = {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}}
    schema = {"$ref": "#/$defs/node", "$defs": {"node": node}}

    assert set(instance(schema, random.Random(3))) == {"next"}


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "wibble"}, "Grammar error: Invalid type: wibble"),
        (3, "Grammar error: Invalid schema"),
        ({"type": "string", "minLength": "x"}, "Grammar error: Invalid schema"),
        ({"type": "object", "properties": []}, "properties should be an object"),
        ({"type": "integer", "minimum": 5, "maximum": 4}, "Unsatisfiable schema"),
        ({"type": "object", "required": ["a"], "additionalProperties": False}, "'a' is required and not allowed"),
        ({"enum": []}, "enum should be a non-empty array"),
        ({"$ref": "#/$defs/none"}, "Unresolved reference"),
        ({"$ref": "https://example.org"}, "the reference"),
        ({"if": {}}, "'if' in a JSON schema"),
        ({"enum": [1], "minimum": 3}, "'enum' beside 'minimum'"),
        ({"oneOf": [{"type": "string"}, {"type": "string"}]}, "'oneOf' of alternatives without distinct types"),
        ({"allOf": [{}, {}]}, "'allOf' of several"),
        ({"minLength": 1, "minimum": 3}, "in a JSON schema without a type"),
        ({"type": "string", "format": "isbn"}, "the format 'isbn'"),
        ({"type": "string", "format": "date", "maxLength": 3}, "together with these lengths"),
        ({"type": "string", "minLength": 10**9}, "more than 10000 characters"),
        ({"type": "array", "minItems": 10**9}, "more than 1000 items"),
        ({"type": "integer", "multipleOf": 0.3}, "this 'multipleOf'"),
        ({"$ref": "#"}, "more than 40 levels"),
    ],
)
def test_schemas_that_cannot_be_promised_are_refused(schema: Any, message: str) -> None:
    """A broken or unsatisfiable schema, or a keyword that is not understood, is an error that names it."""
    with pytest.raises(ApiError, match=message):
        instance(schema, random.Random(1))


def test_one_of_distinct_types_and_one_of_all() -> None:
    """`oneOf` is served where no value can fit two, and `allOf` of a single schema is that schema."""
    either = {"oneOf": [{"type": "integer"}, {"type": "boolean"}]}

    assert isinstance(instance(either, random.Random(1)), int)
    assert isinstance(instance({"allOf": [{"type": "string", "format": "date"}]}, random.Random(1)), str)
    assert isinstance(instance({}, random.Random(1)), str)
    assert instance({"type": "object", "required": ["a"]}, random.Random(1)).keys() == {"a"}


def content(answer: Any) -> str:
    return str(answer.json["choices"][0]["message"]["content"])


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 10},
        "age": {"type": "integer", "minimum": 0, "maximum": 99},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}


def test_answers_satisfy_what_was_asked(ideal: Any) -> None:
    """Each form of constraint gets an answer of that form, which ends by itself."""
    named = {"type": "json_schema", "json_schema": {"name": "p", "schema": SCHEMA}}
    by_format = ideal.chat(response_format=named, max_tokens=100)

    assert accepts(SCHEMA, json.loads(content(by_format)))
    assert by_format.json["choices"][0]["finish_reason"] == "stop"
    assert accepts(SCHEMA, json.loads(content(ideal.chat(structured_outputs={"json": SCHEMA}, max_tokens=100))))
    assert accepts(SCHEMA, json.loads(content(ideal.chat(structured_outputs={"json": json.dumps(SCHEMA)}))))
    assert isinstance(json.loads(content(ideal.chat(response_format={"type": "json_object"}))), dict)
    assert content(ideal.chat(structured_outputs={"choice": ["yes", "no"]})) in ("yes", "no")
    assert re.fullmatch(r"\d{3}", content(ideal.chat(structured_outputs={"regex": r"\d{3}"})))
    assert content(ideal.chat(response_format={"type": "text"}, max_tokens=4))


def test_constraints_end_with_the_limit_and_with_stop_strings(ideal: Any) -> None:
    """An answer that is cut says so, as any other; a stop string ends it."""
    cut = ideal.chat(structured_outputs={"json": SCHEMA}, max_tokens=3).json["choices"][0]
    stopped = ideal.chat(structured_outputs={"json": SCHEMA}, stop=["name"]).json["choices"][0]
    kept = ideal.chat(structured_outputs={"json": SCHEMA}, stop=["zzz"]).json["choices"][0]

    assert cut["finish_reason"] == "length"
    assert (stopped["finish_reason"], stopped["stop_reason"]) == ("stop", "name")
    assert stopped["message"]["content"] == '{"'
    assert kept["stop_reason"] is None
