"""Errors as vLLM words them: `{"error": {"message", "type", "param", "code"}}`, 400 where others say 422."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

_BRANCHES = frozenset(("str", "int", "float", "bool", "list", "dict"))
_TYPES = {400: "BadRequestError", 404: "NotFoundError", 500: "InternalServerError", 503: "ServiceUnavailableError"}


class ApiError(Exception):
    """A request that is answered with an error body. `param` names the field that is wrong."""

    def __init__(self, message: str, *, status: int = 400, param: str | None = None, kind: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.body = json.dumps(
            {"error": {"message": message, "type": kind or _TYPES[status], "param": param, "code": status}},
            separators=(",", ":"),
            ensure_ascii=False,
        ).encode("utf-8", "replace")


def unsupported(what: str, param: str | None = None) -> ApiError:
    """Return the refusal of what the simulation cannot do: saying so is better than an answer that looks like one."""
    return ApiError(f"The simulated engine does not support {what}.", param=param)


def bad_value(message: str, param: str, value: object) -> ApiError:
    """Return the error of a field out of range: vLLM repeats field and value at the end."""
    return ApiError(f"{message} (parameter={param}, value={value})", param=param)


def invalid(errors: Sequence[Mapping[str, Any]]) -> ApiError:
    """Return the error of a body that has the wrong shape; `errors` are rows of pydantic."""
    lines = [f"{len(errors)} validation error{'s' if len(errors) > 1 else ''}:"]
    locations = []
    for error in errors:
        location = ".".join(str(part) for part in ("body", *error["loc"]) if not _is_branch(str(part)))
        locations.append(location)
        row = {"type": error["type"], "loc": location, "msg": error["msg"], "input": _brief(error.get("input"))}
        if "ctx" in error:
            row["ctx"] = error["ctx"]
        lines.append(f"  {row}")
    return ApiError("\n".join(lines), param=locations[0], kind="Bad Request")


def invalid_model(error: ValidationError) -> ApiError:
    """Return the error of a body that pydantic refused."""
    return invalid(error.errors(include_url=False))


def _is_branch(part: str) -> bool:
    """Say whether a part of a location is pydantic's name of one branch of a union, and no field of the request."""
    return part in _BRANCHES or any(sign in part for sign in "[](){}")


def _brief(value: object) -> str:
    """Say what was given without repeating it whole."""
    if isinstance(value, dict | list):
        return f"<{type(value).__name__} of {len(value)} items>"
    text = str(value)
    return text if len(text) <= 200 else f"<{type(value).__name__} of {len(text)} characters>"
