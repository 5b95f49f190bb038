"""From the bytes of a body to one of our models, or vLLM's error."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
from pydantic import BaseModel, ValidationError

from reference_stack.services.ai_models.api_error import ApiError, invalid, invalid_model

_Body = TypeVar("_Body", bound=BaseModel)
Before = Callable[[Mapping[str, Any]], None]


def _nothing(_: Mapping[str, Any]) -> None:
    """Check nothing before the types."""


def decode(raw: bytes) -> Any:
    """Return the JSON value of a body; raise ApiError as vLLM words it."""
    if not raw:
        raise invalid([{"type": "missing", "loc": (), "msg": "Field required", "input": None}])
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return _decode_slowly(raw)


def _decode_slowly(raw: bytes) -> Any:
    # The standard parser takes NaN, and its message is the one that clients of vLLM know.
    try:
        return json.loads(raw)
    except UnicodeDecodeError:
        raise _unparsed() from None
    except json.JSONDecodeError as error:
        row = {"type": "json_invalid", "loc": (error.pos,), "msg": "JSON decode error", "input": {}}
        raise invalid([row | {"ctx": {"error": error.msg}}]) from None
    except (ValueError, RecursionError):  # more digits than Python takes, or too many levels
        raise _unparsed() from None


def _unparsed() -> ApiError:
    # FastAPI's own answer: vLLM has none for it.
    error = ApiError("There was an error parsing the body")
    error.body = b'{"detail":"There was an error parsing the body"}'
    return error


def encodable(text: str) -> bool:
    """Say whether `text` can be written as UTF-8: half of a surrogate pair cannot."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def read(raw: bytes, model: type[_Body], before: Before = _nothing) -> _Body:
    """Return the body as `model`; raise ApiError where `before` does, or where it has another shape."""
    value = decode(raw)
    if not isinstance(value, dict):
        message = "Input should be a valid dictionary or object to extract fields from"
        raise invalid([{"type": "model_attributes_type", "loc": (), "msg": message, "input": value}])
    before(value)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise invalid_model(error) from None
