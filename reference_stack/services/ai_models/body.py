"""From the bytes of a body to one of our models, or vLLM's error."""

from __future__ import annotations

import json
from typing import Any, TypeVar

import msgspec
from pydantic import BaseModel, ValidationError

from reference_stack.services.ai_models.api_error import ApiError, invalid, invalid_model

_Body = TypeVar("_Body", bound=BaseModel)


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
        raise ApiError("There was an error parsing the body", kind="Bad Request") from None
    except json.JSONDecodeError as error:
        row = {"type": "json_invalid", "loc": (error.pos,), "msg": "JSON decode error", "input": {}}
        raise invalid([row | {"ctx": {"error": error.msg}}]) from None
    except ValueError:  # an integer of more digits than Python takes
        raise ApiError("There was an error parsing the body", kind="Bad Request") from None
    except RecursionError:
        raise ApiError("The body is nested too deeply", kind="Bad Request") from None


def read(raw: bytes, model: type[_Body]) -> _Body:
    """Return the body as `model`; raise ApiError where it has another shape."""
    value = decode(raw)
    if not isinstance(value, dict):
        message = "Input should be a valid dictionary or object to extract fields from"
        raise invalid([{"type": "model_attributes_type", "loc": (), "msg": message, "input": value}])
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise invalid_model(error) from None
