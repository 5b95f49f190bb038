"""From the body of a request to what the engine has to make, or vLLM's error."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from pydantic import BaseModel, ValidationError

from reference_stack.schemas.api.openai import ChatRequest, CompletionRequest, GenerationRequest
from reference_stack.services.ai_models.api_error import ApiError, bad_value, invalid, invalid_model
from reference_stack.services.ai_models.model_spec import ModelSpec
from reference_stack.services.ai_models.reply import Reply, count_tokens, plan

MAX_SEQUENCES = 16384  # vLLM's VLLM_MAX_N_SEQUENCES
MAX_LOGPROBS = 20

_Body = TypeVar("_Body", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that will be served: for each choice its prompt's tokens, its planned reply and text to echo."""

    chat: bool
    prompts: tuple[int, ...]  # tokens of each distinct prompt
    n: int  # choices for each prompt
    max_tokens: int
    replies: tuple[Reply, ...]
    echoes: tuple[str, ...]
    stream: bool
    include_usage: bool
    continuous_usage: bool

    @property
    def prompt_tokens(self) -> int:
        return sum(self.prompts)

    def prompt_tokens_of(self, choice: int) -> int:
        return self.prompts[choice // self.n]


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


def check_model(name: str | None, served: str) -> None:
    """Raise ApiError (404) unless `name` is the served model; a missing or empty name means it."""
    if name and name != served:
        raise ApiError(f"The model `{name}` does not exist. Valid aliases: {served}.", status=404, param="model")


def chat_tokens(messages: list[dict[str, Any]], spec: ModelSpec) -> int:
    """Return the prompt tokens of a conversation under the model's template."""
    if not messages:
        raise ApiError("Cannot apply chat template to an empty conversation. Provide at least one message.")
    template = spec.template
    words = sum(count_tokens(text) for message in messages for text in message_texts(message))
    return template.base_tokens + template.message_tokens * len(messages) + words


def message_texts(message: dict[str, Any]) -> Iterable[str]:
    """Yield the texts of one message: its string, or the text parts of its list."""
    content = message.get("content")
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            text = part.get("text") if isinstance(part, dict) else None
            if not isinstance(text, str):
                raise ApiError("Only text parts are supported by this model", param="messages")
            yield text


def ask_chat(raw: bytes, spec: ModelSpec, max_model_len: int, seed: int) -> Asked:
    """Return what a chat request asks for. `seed` chooses among replies where the request has none."""
    body = read(raw, ChatRequest)
    _check_stream(body)
    if body.top_logprobs and not body.logprobs:
        raise ApiError(
            "when using `top_logprobs`, `logprobs` must be set to true. (parameter=top_logprobs)", param="top_logprobs"
        )
    if body.tool_choice not in (None, "none", "auto") and not body.tools:
        raise ApiError("When using `tool_choice`, `tools` must be set. (parameter=tool_choice)", param="tool_choice")
    check_model(body.model, spec.name)
    prompt = chat_tokens(body.messages, spec)
    wanted = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    limit = _output_limit(prompt, max_model_len if wanted is None else wanted, max_model_len, given=wanted is not None)
    _check_sampling(body, limit, spec)
    _check_logprobs(body.top_logprobs if body.logprobs else None)
    if body.tool_choice not in (None, "none", "auto"):
        raise _unsupported("tool_choice")
    text = "\n".join(text for message in body.messages for text in message_texts(message))
    return _asked(body, chat=True, prompts=((prompt, text),), limit=limit, echo=False, seed=seed)


def ask_completion(raw: bytes, spec: ModelSpec, max_model_len: int, seed: int) -> Asked:
    """Return what a text completion asks for."""
    body = read(raw, CompletionRequest)
    _check_stream(body)
    check_model(body.model, spec.name)
    if body.suffix:
        raise ApiError("suffix is only supported for models with FIM completion rendering", param="suffix")
    prompts = _prompts(body, spec)
    longest = max(tokens for tokens, _ in prompts)
    wanted = 16 if body.max_tokens is None else body.max_tokens
    limit = _output_limit(longest, wanted, max_model_len, given=body.max_tokens is not None)
    _check_sampling(body, limit, spec)
    _check_logprobs(body.logprobs)
    return _asked(body, chat=False, prompts=prompts, limit=limit, echo=bool(body.echo), seed=seed)


def _prompts(body: CompletionRequest, spec: ModelSpec) -> tuple[tuple[int, str], ...]:
    prompt = body.prompt
    if not prompt or not all(item or item == 0 for item in prompt):
        raise ApiError(
            "Either prompt or prompt_embeds must be provided and non-empty. (parameter=prompt)", param="prompt"
        )
    if isinstance(prompt, str):
        return ((1 + count_tokens(prompt), prompt),)
    if isinstance(prompt[0], int):
        return (_token_prompt(prompt, spec),)
    return tuple(
        (1 + count_tokens(item), item) if isinstance(item, str) else _token_prompt(item, spec) for item in prompt
    )


def _token_prompt(ids: list[int], spec: ModelSpec) -> tuple[int, str]:
    for number in ids:
        if not 0 <= number < spec.architecture.vocab:
            raise ApiError(f"Token id {number} is out of vocabulary")
    return len(ids), " ".join(map(str, ids))


def _check_stream(body: GenerationRequest) -> None:
    if body.stream_options is not None and not body.stream:
        raise ApiError(
            "Stream options can only be defined when `stream=True`. (parameter=stream_options)", param="stream_options"
        )


def _output_limit(prompt_tokens: int, wanted: int, max_model_len: int, *, given: bool) -> int:
    if given and wanted < 1:
        raise bad_value(f"max_tokens must be at least 1, got {wanted}.", "max_tokens", wanted)
    if wanted > max_model_len:
        message = f"max_tokens={wanted} cannot be greater than {max_model_len=}. Please request fewer output tokens."
        raise bad_value(message, "max_tokens", wanted)
    if prompt_tokens >= max_model_len:
        least = max_model_len + 1
        message = (
            f"This model's maximum context length is {max_model_len} tokens. However, your prompt contains at least "
            f"{least} input tokens, which exceeds this limit even without any output tokens. Please reduce the length "
            "of the input prompt."
        )
        raise bad_value(message, "input_tokens", least)
    return min(wanted, max_model_len - prompt_tokens)


def _check_sampling(body: GenerationRequest, limit: int, spec: ModelSpec) -> None:
    n = 1 if body.n is None else body.n
    if n < 1:
        raise ApiError(f"n must be at least 1, got {n}.")
    if n > MAX_SEQUENCES:
        raise ApiError(
            f"n must be at most {MAX_SEQUENCES}, got {n}. To increase this limit, set the VLLM_MAX_N_SEQUENCES "
            "environment variable."
        )
    for name in ("presence_penalty", "frequency_penalty"):
        penalty = getattr(body, name)
        if penalty is not None and not -2 <= penalty <= 2:
            raise ApiError(f"{name} must be in [-2, 2], got {penalty}.")
    _check_temperature(body.temperature)
    if body.top_p is not None and not 0 < body.top_p <= 1:
        raise bad_value(f"top_p must be in (0, 1], got {body.top_p}.", "top_p", body.top_p)
    if body.min_tokens < 0:
        raise ApiError(f"min_tokens must be greater than or equal to 0, got {body.min_tokens}.")
    if body.min_tokens > limit:
        raise ApiError(f"min_tokens must be less than or equal to max_tokens={limit}, got {body.min_tokens}.")
    if "" in _stops(body):
        raise ApiError("stop cannot contain an empty string.")
    _check_bias(body, spec.architecture.vocab)
    if body.structured_outputs is not None:
        raise _unsupported("structured_outputs")
    if body.response_format is not None and body.response_format.get("type") != "text":
        raise _unsupported("response_format")


def _check_temperature(temperature: float | None) -> None:
    if temperature is None:
        return
    if not math.isfinite(temperature):
        raise bad_value(f"temperature must be a finite number, got {temperature}.", "temperature", temperature)
    if temperature < 0:
        raise bad_value(f"temperature must be non-negative, got {temperature}.", "temperature", temperature)
    if temperature > 2:
        raise bad_value(f"temperature must be in [0, 2], got {temperature}.", "temperature", temperature)


def _check_bias(body: GenerationRequest, vocab: int) -> None:
    keys = list(body.logit_bias or {})
    odd = [key for key in keys if not (key.isascii() and key.isdecimal() and len(key) < 20)]
    if odd:
        raise ApiError(f"logit_bias keys must be token ids, got {odd[0][:40]!r}.", param="logit_bias")
    unknown = [int(key) for key in keys if int(key) >= vocab]
    if unknown:
        message = f"token_id(s) {unknown} in logit_bias contain out-of-vocab token ids. Vocabulary size: {vocab}"
        raise bad_value(message, "logit_bias", unknown)


def _check_logprobs(count: int | None) -> None:
    if count is None:
        return
    if count > MAX_LOGPROBS:
        message = f"Requested sample logprobs of {count}, which is greater than max allowed: {MAX_LOGPROBS}"
        raise bad_value(message, "logprobs", count)
    raise _unsupported("logprobs")


def _unsupported(field: str) -> ApiError:
    # Saying so is better than an answer that only looks like one.
    return ApiError(f"The simulated engine does not support {field}. (parameter={field})", param=field)


def _stops(body: GenerationRequest) -> tuple[str, ...]:
    if body.stop is None:
        return ()
    return (body.stop,) if isinstance(body.stop, str) else tuple(body.stop)


def _asked(
    body: GenerationRequest, *, chat: bool, prompts: tuple[tuple[int, str], ...], limit: int, echo: bool, seed: int
) -> Asked:
    n = 1 if body.n is None else body.n
    greedy = body.temperature == 0
    own = 0 if greedy or body.seed is None else body.seed
    replies = []
    for _, text in prompts:
        first = zlib.crc32(text.encode("utf-8", "surrogatepass")) + own + seed
        replies += [
            plan(
                first + (0 if greedy else i),
                limit,
                ignore_eos=body.ignore_eos,
                min_tokens=body.min_tokens,
                stop=_stops(body),
                include_stop=body.include_stop_str_in_output,
            )
            for i in range(n)
        ]
    options = body.stream_options
    return Asked(
        chat=chat,
        prompts=tuple(tokens for tokens, _ in prompts),
        n=n,
        max_tokens=limit,
        replies=tuple(replies),
        echoes=tuple(text if echo else "" for _, text in prompts for _ in range(n)),
        stream=bool(body.stream),
        include_usage=options is not None and bool(options.include_usage),
        continuous_usage=options is not None and bool(options.include_usage) and bool(options.continuous_usage_stats),
    )
