"""Editors get a schema of profiles that takes what reading takes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from hxp_harness.errors import UsageError
from hxp_harness.gates.grammar import parse_gate
from hxp_harness.profile import known_profiles, read_profile
from hxp_harness.profile_schema import gate_pattern, profile_schema

PROFILES = Path(__file__).parents[2] / "profiles"


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return profile_schema()


def test_the_schema_in_the_repository_is_that_of_the_code(schema: dict[str, Any]) -> None:
    """The file that editors read is what the command prints."""
    assert json.loads((PROFILES / "schema.json").read_text(encoding="utf-8")) == schema
    jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("file", known_profiles().values(), ids=lambda file: file.stem)
def test_every_bundled_profile_fits_and_names_it(file: Path, schema: dict[str, Any]) -> None:
    """An editor finds the schema in the first line, and nothing to complain of; nor in what a run writes down."""
    text = file.read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=schema.json\n")
    jsonschema.validate(yaml.safe_load(text), schema)
    resolved = read_profile(file).model_dump(mode="json", by_alias=True)
    jsonschema.validate(json.loads(json.dumps(resolved)), schema)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rate", 50),
        ("rate", "50 ms"),
        ("timeout", "5 rps"),
        ("prompt_tokens", 0),
        ("arrival", "poison"),
        ("arrival", {"kind": "gamma"}),
        ("prompt_token", 5),
    ],
)
def test_what_reading_refuses_is_marked(key: str, value: object, schema: dict[str, Any]) -> None:
    """A bare number, a wrong unit, an unknown kind or key is marked while one types."""
    tree = yaml.safe_load((PROFILES / "mixtral.yaml").read_text(encoding="utf-8"))
    tree["contract"][key] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(tree, schema)


@pytest.mark.parametrize(
    "text",
    [
        "e2e p95 <= 2000 ms",
        "  e2e\tp50<=1min ",
        "warn ttft p99 < 300 ms where prompt_tokens <= 512 and tag = gold",
        "abort error_rate <= 5 %",
        "goodput(ttft <= 500 ms, tpot <= 30 ms) >= 99 %",
        "output_throughput > 3e3 tokens/s",
    ],
)
def test_the_pattern_takes_what_the_grammar_takes(text: str) -> None:
    """Right sentences match."""
    parse_gate(text)
    assert re.search(gate_pattern(), text)


@pytest.mark.parametrize(
    "text", ["e2 p95 <= 2 s", "e2e <= 2 s", "e2e p95 <= 2", "send_lag p99 <= 1 ms", "stop e2e p95 <= 1 s"]
)
def test_the_pattern_marks_what_the_grammar_refuses(text: str) -> None:
    """The commonest slips do not match."""
    with pytest.raises(UsageError):
        parse_gate(text)
    assert not re.search(gate_pattern(), text)
