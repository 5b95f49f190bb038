"""Structured output: the text that satisfies what a request constrains, or vLLM's error."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from typing import Any

from reference_stack.schemas.api.openai import GenerationRequest
from reference_stack.services.ai_models.api_error import ApiError, unsupported
from reference_stack.services.ai_models.pattern import matching
from reference_stack.services.ai_models.schema import instance

Speech = Callable[[random.Random], str]
# In the order in which vLLM prints them.
_PRINTED = (
    *("json", "regex", "choice", "grammar", "json_object", "disable_any_whitespace"),
    *("disable_additional_properties", "whitespace_pattern", "structural_tag", "_backend", "_backend_was_auto"),
)
_FLAGS = ("disable_any_whitespace", "disable_additional_properties", "_backend_was_auto")


def constraint(body: GenerationRequest) -> Speech | None:
    """Return what makes the text of a choice from a draw, None where the request constrains nothing."""
    wanted = body.structured_outputs
    given = {} if wanted is None else wanted.model_dump(by_alias=True, exclude_none=True)
    if wanted is not None and sum(name in given for name in ("json", "regex", "choice")) > 1:
        raise ApiError("You can only use one kind of constraints for structured outputs ('json', 'regex' or 'choice').")
    given |= _of_format(body)
    if len(given) > 1:
        raise ApiError(f"You can only use one kind of structured outputs constraint but multiple are {_shown(given)}")
    if not given:
        asks = wanted is not None or (body.response_format is not None and body.response_format.type != "text")
        if asks:
            raise ApiError(f"You must use one kind of structured outputs constraint but none are {_shown(given)}")
        return None
    ((kind, value),) = given.items()
    return _speech(kind, value)


def json_text(value: object) -> str:
    """Return `value` as a model writes it: one line, a space after each comma and colon."""
    return json.dumps(value, ensure_ascii=False)


def _of_format(body: GenerationRequest) -> dict[str, Any]:
    wanted = body.response_format
    if wanted is None or wanted.type == "text":
        return {}
    if wanted.type == "json_object":
        return {"json_object": True}
    if wanted.json_schema is None:
        raise ApiError(
            "When response_format type is 'json_schema', the 'json_schema' field must be provided. "
            "(parameter=response_format)",
            param="response_format",
        )
    return {} if wanted.json_schema.json_schema is None else {"json": wanted.json_schema.json_schema}


def _speech(kind: str, value: Any) -> Speech:
    if kind == "choice":
        if not value:
            raise ApiError(f"Choice '{value}' cannot be an empty list")
        return lambda draw: str(draw.choice(value))
    if kind == "regex":
        return lambda draw: matching(value, draw)
    if kind == "json_object":
        return lambda draw: json_text({"answer": instance({"type": "string"}, draw)})
    if kind == "json":
        schema = _decoded(value)
        return lambda draw: json_text(instance(schema, draw))
    raise unsupported(f"structured_outputs.{kind}", "structured_outputs")


def _decoded(value: str | Mapping[str, Any]) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise ApiError("Invalid JSON grammar specification.") from None


def _shown(given: Mapping[str, Any]) -> str:
    fields = {name: given.get(name, False if name in _FLAGS else None) for name in _PRINTED}
    return f"specified: {fields}"
