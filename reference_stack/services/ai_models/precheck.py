"""What vLLM looks at before it reads the types of a body's fields; what these find is told before all else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reference_stack.services.ai_models.api_error import ApiError, bad_value

LONGEST_SALT = 128
Body = Mapping[str, Any]


def before_chat(body: Body) -> None:
    """Raise ApiError for what is wrong with the body of a chat before its types are read."""
    messages = body.get("messages", [])
    if not isinstance(messages, str | list | dict):
        raise ApiError(f"'{type(messages).__name__}' object is not iterable")
    _tools(body)
    _logprobs(body, "top_logprobs")
    _more_than_zero(body)
    _stream_options(body)
    if body.get("continue_final_message") and body.get("add_generation_prompt"):
        raise ApiError("Cannot set both `continue_final_message` and `add_generation_prompt` to True.")
    cache_salt(body)


def before_completion(body: Body) -> None:
    """Raise ApiError for what is wrong with the body of a text completion before its types are read."""
    nothing = body.get("prompt") is None or body["prompt"] == ""
    if nothing and body.get("prompt_embeds"):
        raise ApiError(
            "You must set `--enable-prompt-embeds` to input `prompt_embeds`. (parameter=prompt_embeds)",
            param="prompt_embeds",
        )
    if nothing:
        raise ApiError(
            "Either prompt or prompt_embeds must be provided and non-empty. (parameter=prompt)", param="prompt"
        )
    _stream_options(body)
    _logprobs(body, "logprobs")
    cache_salt(body)


def _tools(body: Body) -> None:
    if body.get("tools") == []:
        raise ApiError(
            "`tools` must not be an empty array. Either provide at least one tool or omit the field entirely. "
            "(parameter=tools)",
            param="tools",
        )
    choice = body.get("tool_choice")
    if choice is None or choice == "none":
        return
    if body.get("tools") is None:
        raise ApiError("When using `tool_choice`, `tools` must be set. (parameter=tool_choice)", param="tool_choice")
    if choice not in ("auto", "required") and not isinstance(choice, dict):
        raise ApiError(
            f'Invalid value for `tool_choice`: {str(choice)[:100]}! Only named tools, "none", "auto" or '
            '"required" are supported. (parameter=tool_choice)',
            param="tool_choice",
        )
    if isinstance(choice, dict):
        _named_tool(choice)


def _named_tool(choice: Body) -> None:
    function = choice.get("function")
    if not isinstance(function, dict):
        raise ApiError(f"Invalid value for `function`: `{str(function)[:100]}`", param="tool_choice.function")
    if not isinstance(function.get("name"), str) or not function["name"]:
        raise ApiError("Invalid `name` in `function`", param="tool_choice.function.name")


def _logprobs(body: Body, field: str) -> None:
    for name in ("prompt_logprobs", field):
        value = body.get(name)
        if value is not None and not isinstance(value, int | float):
            raise bad_value(f"`{name}` must be an integer.", name, value)
    wanted = body.get("prompt_logprobs") or 0
    if body.get("stream") and (wanted > 0 or wanted == -1):
        raise ApiError(
            "`prompt_logprobs` are not available when `stream=True`. (parameter=prompt_logprobs)",
            param="prompt_logprobs",
        )
    for name in ("prompt_logprobs", field):
        value = body.get(name)
        if value is not None and value < 0 and value != -1:
            raise bad_value(f"`{name}` must be a positive value or -1.", name, value)


def _more_than_zero(body: Body) -> None:
    count = body.get("top_logprobs")
    if count is not None and (count > 0 or count == -1) and not body.get("logprobs"):
        raise ApiError(
            "when using `top_logprobs`, `logprobs` must be set to true. (parameter=top_logprobs)", param="top_logprobs"
        )


def _stream_options(body: Body) -> None:
    if body.get("stream_options") and not body.get("stream"):
        raise ApiError(
            "Stream options can only be defined when `stream=True`. (parameter=stream_options)", param="stream_options"
        )


def cache_salt(body: Body) -> None:
    salt = body.get("cache_salt")
    if salt is None:
        return
    if not isinstance(salt, str) or not salt:
        raise ApiError(
            "Parameter 'cache_salt' must be a non-empty string if provided. (parameter=cache_salt)", param="cache_salt"
        )
    if len(salt) > LONGEST_SALT or set(salt) & set("@/\\\0"):
        raise ApiError(
            f"Parameter 'cache_salt' must be at most {LONGEST_SALT} characters and must not contain "
            "'@', '/', '\\\\', or NUL. (parameter=cache_salt)",
            param="cache_salt",
        )
