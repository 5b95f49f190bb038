"""Which messages of a conversation vLLM takes: its types of message are a union, and any of them will do."""

from __future__ import annotations

from typing import Any

from reference_stack.services.ai_models.api_error import ApiError, invalid

# The branch whose errors come first, and so give the error its place.
_FIRST = "ChatCompletionDeveloperMessageParam"
_MAY_HAVE_NO_CONTENT = ("assistant", "function")


def check_messages(messages: list[Any]) -> list[dict[str, Any]]:
    """Return the messages; raise ApiError where one has another shape than every type that vLLM knows."""
    for place, message in enumerate(messages):
        _check(place, message)
    return messages


def _check(place: int, message: Any) -> None:
    if not isinstance(message, dict):
        raise _wrong("dict_type", "Input should be a valid dictionary", message, place)
    role = message.get("role")
    content = message.get("content", "")
    nothing = content is None and role in _MAY_HAVE_NO_CONTENT
    if not nothing and not isinstance(content, str | list):
        raise _wrong("string_type", "Input should be a valid string", content, place, "content")
    if isinstance(role, str):
        return
    if "content" not in message:
        raise _wrong("missing", "Field required", message, place, "content")
    if "role" not in message:
        raise _wrong("missing", "Field required", message, place, "role")
    raise _wrong("literal_error", "Input should be 'developer'", role, place, "role")


def _wrong(kind: str, text: str, given: Any, place: int, *field: str) -> ApiError:
    return invalid([{"type": kind, "loc": ("messages", place, _FIRST, *field), "msg": text, "input": given}])
