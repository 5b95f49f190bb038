"""The fields of vLLM's answers and their types, and how a value differs from such a shape.

A shape is a type, None (null and nothing else), a tuple (any of them), a list of one shape (every item has it) or a
dict (exactly these keys).
"""

from __future__ import annotations

from typing import Any

_COUNTS = {"prompt_tokens": int, "total_tokens": int, "completion_tokens": int}
_TEXT = (str, None)
_STOP = (str, int, None)
_ENDED = {"finish_reason": str, "stop_reason": _STOP}
_HANDED_OVER = {"kv_transfer_params": None, "ec_transfer_params": None, "metrics": None}
_PROMPT = {"prompt_logprobs": None, "prompt_token_ids": None}

_TOKEN = {"token": str, "logprob": float, "bytes": [int]}
CHAT_LOGPROBS = {"content": [_TOKEN | {"top_logprobs": [_TOKEN]}]}
TEXT_LOGPROBS = {"text_offset": [int], "token_logprobs": [float], "tokens": [str], "top_logprobs": [dict]}
TOOL_CALL = {"id": str, "type": "function", "function": {"name": str, "arguments": str}}

MESSAGE = {
    "role": "assistant",
    "content": _TEXT,
    "refusal": None,
    "annotations": None,
    "audio": None,
    "function_call": None,
    "reasoning": None,
}


def usage(*details: str) -> dict[str, Any]:
    """Return the shape of a usage with these fields of details, which are null."""
    return _COUNTS | dict.fromkeys(details)


def chat(message: Any = MESSAGE, logprobs: Any = None) -> dict[str, Any]:
    """Return the shape of a whole chat completion."""
    choice = {"index": int, "message": message, "logprobs": logprobs, **_ENDED}
    return {
        **_answer("chat.completion"),
        "choices": [choice | {"token_ids": None, "routed_experts": None}],
        **_whole(),
        **_PROMPT,
        "prompt_text": None,
        **_HANDED_OVER,
    }


def completion(logprobs: Any = None) -> dict[str, Any]:
    """Return the shape of a whole text completion."""
    choice = {"index": int, "text": str, "logprobs": logprobs, **_ENDED}
    choice |= {"token_ids": None, "routed_experts": None, **_PROMPT}
    return {**_answer("text_completion"), "choices": [choice], **_whole(), **_HANDED_OVER}


def role_event(*, counted: bool = False) -> dict[str, Any]:
    """Return the shape of the event of a chat stream that only names the role."""
    delta = {"role": "assistant", "content": ""}
    choice = {"index": int, "delta": delta, "logprobs": None, "finish_reason": None}
    return _event(
        "chat.completion.chunk", choice, _running("chat", counted) | {"prompt_token_ids": None, "prompt_text": None}
    )


def token_event(kind: str, *, last: bool = False, counted: bool = False, signed: bool = False) -> dict[str, Any]:
    """Return the shape of an event with text: of a `chat` or a `completion`, the last one or another.

    `counted`: with continuous_usage_stats. `signed`: the last event names the system, where no usage event follows.
    """
    ending: dict[str, Any] = _ENDED if last else {"finish_reason": None}
    if kind == "chat":
        choice = {"index": int, "delta": {"content": str}, "logprobs": None, **ending, "token_ids": None}
        name = "chat.completion.chunk"
    else:
        choice = {"index": int, "text": str, "logprobs": None, "stop_reason": None, **ending, "token_ids": None}
        choice |= {"prompt_token_ids": None}
        name = "text_completion"
    signature = {"system_fingerprint": str} if signed else {}
    return _event(name, choice, _running(kind, counted) | signature)


def usage_event(kind: str) -> dict[str, Any]:
    """Return the shape of the event before [DONE] that has the usage and no choices."""
    name = "chat.completion.chunk" if kind == "chat" else "text_completion"
    return {**_answer(name), "choices": [], "usage": usage(), "system_fingerprint": str}


ERROR = {"error": {"message": str, "type": str, "param": _TEXT, "code": int}}
MODELS = {
    "object": "list",
    "data": [
        {
            "id": str,
            "object": "model",
            "created": int,
            "owned_by": str,
            "root": str,
            "parent": None,
            "max_model_len": int,
            "permission": [
                {
                    "id": str,
                    "object": "model_permission",
                    "created": int,
                    "organization": str,
                    "group": None,
                    **dict.fromkeys(("allow_create_engine", "allow_sampling", "allow_logprobs"), bool),
                    **dict.fromkeys(("allow_search_indices", "allow_view", "allow_fine_tuning", "is_blocking"), bool),
                }
            ],
        }
    ],
}


def tokens(strings: Any = None) -> dict[str, Any]:
    """Return the shape of an answer of /tokenize."""
    return {"count": int, "max_model_len": int, "tokens": [int], "token_strs": strings}


def differences(value: Any, shape: Any, place: str = "answer") -> list[str]:
    """Return in which places `value` is not as `shape` says; nothing where it is."""
    if isinstance(shape, dict):
        return _of_object(value, shape, place)
    if isinstance(shape, list):
        return _of_list(value, shape, place)
    if isinstance(shape, tuple):
        right = any(not differences(value, one, place) for one in shape)
    elif isinstance(shape, type):
        right = isinstance(value, shape) and not (isinstance(value, bool) and shape is not bool)
    else:
        right = value == shape
    return [] if right else [f"{place} is {value!r}, not {getattr(shape, '__name__', shape)}"]


def _of_list(value: Any, shape: list[Any], place: str) -> list[str]:
    if not isinstance(value, list):
        return [f"{place} is {value!r}, not a list"]
    if not shape and value:
        return [f"{place} is not empty"]
    return [line for i, item in enumerate(value) for line in differences(item, shape[0], f"{place}[{i}]")]


def _of_object(value: Any, shape: dict[str, Any], place: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{place} is {value!r}, not an object"]
    lines = [f"{place} lacks {key}" for key in shape if key not in value]
    lines += [f"{place} has {key} besides" for key in value if key not in shape]
    both = [key for key in shape if key in value]
    return lines + [line for key in both for line in differences(value[key], shape[key], f"{place}.{key}")]


def _answer(kind: str) -> dict[str, Any]:
    return {"id": str, "object": kind, "created": int, "model": str}


def _event(kind: str, choice: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    return {**_answer(kind), "choices": [choice], **more}


def _whole() -> dict[str, Any]:
    details = ("prompt_tokens_details", "completion_tokens_details")
    return {"service_tier": None, "system_fingerprint": str, "usage": usage(*details)}


def _running(kind: str, counted: bool) -> dict[str, Any]:
    details = ("completion_tokens_details",) if kind == "chat" else ()
    return {"usage": usage(*details)} if counted else {}
