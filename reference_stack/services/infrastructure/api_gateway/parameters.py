"""The parameters that a request may carry, as rows: a name, and what its value must be. All others are refused."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping

from reference_stack.schemas.configuration.api_gateway import LimitSettings
from reference_stack.schemas.configuration.upstream import ParameterSettings
from reference_stack.services.infrastructure.api_gateway.refusal import Refusal, bad_request, shown
from reference_stack.services.infrastructure.api_gateway.rules import (
    Rule,
    boolean,
    either,
    fields,
    integer,
    listed,
    number,
    one_of,
    simply,
    text,
)

_INT64 = 2**63
_BOUND = frozenset({"stream_options", "top_logprobs", "tool_choice", "min_tokens"})  # to others
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def _logit_bias(value: object) -> str:
    words = "an object of at most 300 token numbers, each with a number from -100 to 100"
    if not isinstance(value, dict) or len(value) > 300:
        return words
    bias = number(-100, 100)
    fits = all(name.isascii() and name.isdigit() and len(name) < 10 and not bias(each) for name, each in value.items())
    return "" if fits else words


def _mapping(value: object) -> str:
    return "" if isinstance(value, dict) else "an object"


def _tool_name(value: object) -> str:
    fits = isinstance(value, str) and _TOOL_NAME.fullmatch(value)
    return "" if fits else "a name of 1 to 64 letters, digits, _ or -"


_LONG = 2**31
_TOOL_CALL = fields(
    {
        "id": text(128),
        "type": one_of("function"),
        "index": integer(0, 1024),
        "function": fields({"name": _tool_name, "arguments": text(_LONG)}, needed=("name", "arguments")),
    },
    needed=("function",),
)
_CONTENT = either(
    text(_LONG),
    listed(fields({"type": one_of("text"), "text": text(_LONG)}, needed=("type", "text")), 1024, least=0),
)
_MESSAGE = simply(
    fields(
        {
            "role": one_of(*sorted(_ROLES)),
            "content": _CONTENT,
            "name": text(64),
            "tool_calls": listed(_TOOL_CALL, 128),
            "tool_call_id": text(128),
            "refusal": text(_LONG),
        },
        needed=("role",),
    ),
    _ROLES,
)
_TOOL = fields(
    {
        "type": one_of("function"),
        "function": fields(
            {"name": _tool_name, "description": text(_LONG), "parameters": _mapping, "strict": boolean},
            needed=("name",),
        ),
    },
    needed=("type", "function"),
)
_NAMED_TOOL = fields(
    {"type": one_of("function"), "function": fields({"name": _tool_name}, needed=("name",))},
    needed=("type", "function"),
)
_RESPONSE_FORMAT = fields(
    {
        "type": one_of("text", "json_object", "json_schema"),
        "json_schema": fields(
            {"name": text(64, shortest=1), "description": text(4096), "schema": _mapping, "strict": boolean},
            needed=("name", "schema"),
        ),
    },
    needed=("type",),
)


def _shared(limits: LimitSettings) -> dict[str, Rule]:
    stop = text(256, shortest=1)
    return {
        "model": text(64, shortest=1),
        "frequency_penalty": number(-2, 2),
        "ignore_eos": boolean,
        "include_stop_str_in_output": boolean,
        "logit_bias": _logit_bias,
        "max_tokens": integer(1, limits.output_tokens),
        "min_p": number(0, 1),
        "min_tokens": integer(0, limits.output_tokens),
        "n": integer(1, limits.choices),
        "presence_penalty": number(-2, 2),
        "repetition_penalty": number(0, 2, above=True),
        "response_format": _RESPONSE_FORMAT,
        "seed": integer(-_INT64, _INT64 - 1),
        "stop": either(stop, listed(stop, 16, least=0)),
        "stream": boolean,
        "stream_options": fields({"include_usage": boolean, "continuous_usage_stats": boolean}),
        "temperature": number(0, 2),
        "top_k": integer(-1, 2**31 - 1),
        "top_p": number(0, 1, above=True),
        "user": text(512),
    }


def chat_parameters(limits: LimitSettings) -> Mapping[str, Rule]:
    """Return the rules of /v1/chat/completions by parameter."""
    return _shared(limits) | {
        "messages": listed(_MESSAGE, limits.messages),
        "logprobs": boolean,
        "max_completion_tokens": integer(1, limits.output_tokens),
        "parallel_tool_calls": boolean,
        "reasoning_effort": one_of("none", "minimal", "low", "medium", "high"),
        "tool_choice": either(one_of("none", "auto", "required"), _NAMED_TOOL),
        "tools": listed(_TOOL, 128),
        "top_logprobs": integer(0, 20),
    }


def completion_parameters(limits: LimitSettings) -> Mapping[str, Rule]:
    """Return the rules of /v1/completions by parameter."""
    token = integer(0, 2**31 - 1)
    return _shared(limits) | {
        "prompt": either(
            text(_LONG, shortest=1),
            listed(text(_LONG, shortest=1), limits.choices),
            listed(token, limits.output_tokens),
        ),
        "echo": boolean,
        "logprobs": integer(0, 20),
    }


def embedding_parameters(limits: LimitSettings) -> Mapping[str, Rule]:
    """Return the rules of /v1/embeddings by parameter."""
    token = integer(0, 2**31 - 1)
    return {
        "model": text(64, shortest=1),
        "input": either(
            text(_LONG, shortest=1),
            listed(text(_LONG, shortest=1), limits.messages),
            listed(token, limits.output_tokens),
            listed(listed(token, limits.output_tokens), limits.messages),
        ),
        "dimensions": integer(1, 65_536),
        "encoding_format": one_of("float", "base64"),
        "user": text(512),
    }


def further(named: Mapping[str, ParameterSettings]) -> Mapping[str, Rule]:
    """Return the rules of the parameters that a model's settings name."""
    rules: dict[str, Callable[[ParameterSettings], Rule]] = {
        "boolean": lambda _: boolean,
        "integer": lambda said: integer(math.ceil(said.low), math.floor(said.high)),
        "number": lambda said: number(said.low, said.high),
        "text": lambda said: text(said.longest),
        "one_of": lambda said: one_of(*said.words),
        "object": lambda _: _mapping,
    }
    return {name: rules[said.kind](said) for name, said in named.items()}


def check(request: Mapping[str, object], rules: Mapping[str, Rule], needed: Iterable[str]) -> None:
    """Raise Refusal 400 that names the first parameter that is unknown, missing or out of its range."""
    for name in needed:
        if request.get(name) is None:
            raise bad_request("missing_required_parameter", f"the parameter {name!r} is missing", name)
    for name, value in request.items():
        rule = rules.get(name)
        if rule is None:
            raise bad_request("unknown_parameter", f"the parameter {shown(name)!r} is not known here", shown(name))
        if value is None:
            continue
        problem = rule(value)
        if problem:
            raise bad_request("invalid_value", f"{name} must be {problem}", name)
    _check_together(request)


def _check_together(request: Mapping[str, object]) -> None:
    if _BOUND.isdisjoint(request):
        return
    if request.get("stream_options") is not None and not request.get("stream"):
        raise _together("stream_options", "is for requests with stream alone")
    if request.get("top_logprobs") is not None and not request.get("logprobs"):
        raise _together("top_logprobs", "needs logprobs")
    if request.get("tool_choice") not in (None, "none") and not request.get("tools"):
        raise _together("tool_choice", "needs tools")
    least, most = request.get("min_tokens"), request.get("max_completion_tokens") or request.get("max_tokens")
    if isinstance(least, int) and isinstance(most, int) and least > most:
        raise _together("min_tokens", "is larger than the most tokens asked for")


def _together(name: str, message: str) -> Refusal:
    return bad_request("invalid_value", f"{name} {message}", name)
