"""What vLLM refuses of a request, and in which words: a table of rules, first match answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Body = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error answer: `{"error": {message, type, param, code}}` with `code` as its HTTP status."""

    message: str
    type: str = "BadRequestError"
    param: str | None = None
    code: int = 400

    def body(self) -> dict[str, object]:
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


def malformed(place: str | None, message: str, kind: str = "") -> Refusal:
    """Return how vLLM words what its schema refuses at `place` ("body.max_tokens")."""
    text = f"{{'type': '{kind}', 'loc': '{place}', 'msg': '{message}'}}" if kind else message
    return Refusal(f"1 validation error:\n  {text}", "Bad Request", place)


def number(body: Body, name: str, default: float) -> float:
    """Return a numeric field or its default; what is no number is the business of the type rules."""
    value = body.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else default


_TYPES: Mapping[str, tuple[type | tuple[type, ...], str, str]] = {
    "max_tokens": (int, "int_parsing", "Input should be a valid integer"),
    "max_completion_tokens": (int, "int_parsing", "Input should be a valid integer"),
    "n": (int, "int_parsing", "Input should be a valid integer"),
    "temperature": ((int, float), "float_parsing", "Input should be a valid number"),
    "top_p": ((int, float), "float_parsing", "Input should be a valid number"),
    "stream": (bool, "bool_parsing", "Input should be a valid boolean"),
    "messages": (list, "list_type", "Input should be a valid list"),
    "stream_options": (dict, "model_attributes_type", "Input should be a valid dictionary"),
}

# field, its default, lowest, highest, how the range reads
_RANGES = (
    ("temperature", 0.0, 0.0, float("inf"), "temperature must be non-negative, got {value}"),
    ("temperature", 0.0, 0.0, 2.0, "temperature must be in [0, 2], got {value}"),
    ("top_p", 1.0, 1e-9, 1.0, "top_p must be in (0, 1], got {value}"),
)
# the same of fields that vLLM does not name as `param`
_UNNAMED_RANGES = (
    ("n", 1, 1, float("inf"), "n must be at least 1, got {value}."),
    ("n", 1, 1, 16384, "n must be at most 16384, got {value}."),
    ("presence_penalty", 0.0, -2.0, 2.0, "presence_penalty must be in [-2, 2], got {value}."),
    ("frequency_penalty", 0.0, -2.0, 2.0, "frequency_penalty must be in [-2, 2], got {value}."),
)


def types(body: Body) -> Refusal | None:
    """Refuse a field of the wrong type."""
    for name, (wanted, kind, message) in _TYPES.items():
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
            return malformed(f"body.{name}", message, kind)
    return None


def ranges(body: Body) -> Refusal | None:
    """Refuse a number out of its range."""
    for name, default, lowest, highest, message in (*_RANGES, *_UNNAMED_RANGES):
        value = number(body, name, default)
        if not lowest <= value <= highest:
            named = (name, default, lowest, highest, message) in _RANGES
            said = message.format(value=float(value) if named else value)
            tail = f". (parameter={name}, value={float(value)})" if named else ""
            return Refusal(said + tail, param=name if named else None)
    return None


def lengths(body: Body, max_model_len: int) -> Refusal | None:
    """Refuse lengths in tokens that cannot be."""
    asked = body.get("max_tokens", body.get("max_completion_tokens"))
    if not isinstance(asked, int):
        return None
    if asked < 1:
        tail = f"(parameter=max_tokens, value={asked})"
        return Refusal(f"max_tokens must be at least 1, got {asked}. {tail}", param="max_tokens")
    if asked > max_model_len:
        message = f"max_tokens={asked} cannot be greater than max_model_len={max_model_len}. "
        return Refusal(message + "Please request fewer output tokens.", param="max_tokens")
    least = number(body, "min_tokens", 0)
    if least > asked:
        return Refusal(f"min_tokens must be less than or equal to max_tokens={asked}, got {least}.")
    return None


def options(body: Body) -> Refusal | None:
    """Refuse options that need another one."""
    if body.get("stream_options") is not None and not body.get("stream"):
        message = "Stream options can only be defined when `stream=True`. (parameter=stream_options)"
        return Refusal(message, param="stream_options")
    if body.get("top_logprobs") is not None and not body.get("logprobs"):
        message = "when using `top_logprobs`, `logprobs` must be set to true. (parameter=top_logprobs)"
        return Refusal(message, param="top_logprobs")
    logprobs = number(body, "top_logprobs", 0) or number(body, "logprobs", 0)
    if logprobs > 20:
        message = f"Requested sample logprobs of {logprobs}, which is greater than max allowed: 20"
        return Refusal(message, param="logprobs")
    if body.get("tool_choice") == "required" and not body.get("tools"):
        message = "When using `tool_choice`, `tools` must be set. (parameter=tool_choice)"
        return Refusal(message, param="tool_choice")
    stop = body.get("stop")
    if stop == "" or (isinstance(stop, list) and "" in stop):
        return Refusal("stop cannot contain an empty string.")
    return None


def chat_prompt(body: Body) -> Refusal | None:
    """Refuse a chat without messages."""
    messages = body.get("messages")
    if messages is None:
        return malformed("body.messages", "Field required", "missing")
    if messages == []:
        return Refusal("Cannot apply chat template to an empty conversation. Provide at least one message.")
    return None


def text_prompt(body: Body) -> Refusal | None:
    """Refuse a text completion without a prompt, and one with a suffix."""
    if not body.get("prompt"):
        message = "Either prompt or prompt_embeds must be provided and non-empty. (parameter=prompt)"
        return Refusal(message, param="prompt")
    if body.get("suffix"):
        return Refusal("suffix is only supported for models with FIM completion rendering", param="suffix")
    return None


Rule = Callable[[Body], Refusal | None]


def refusal(body: Body, *, chat: bool, model: str, max_model_len: int) -> Refusal | None:
    """Return what vLLM would refuse `body` with, or None."""
    rules: tuple[Rule, ...] = (
        types,
        chat_prompt if chat else text_prompt,
        lambda asked: unknown_model(asked, model),
        ranges,
        lambda asked: lengths(asked, max_model_len),
        options,
    )
    return next((found for rule in rules if (found := rule(body)) is not None), None)


def unknown_model(body: Body, model: str) -> Refusal | None:
    """Refuse another model's name; none and the empty one are the default model."""
    asked = body.get("model")
    if not asked or asked == model:
        return None
    return Refusal(f"The model `{asked}` does not exist. Valid aliases: {model}.", "NotFoundError", "model", 404)
