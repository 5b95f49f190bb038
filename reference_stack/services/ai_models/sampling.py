"""Checks what a request asks of sampling and lengths, in vLLM's order and words."""

from __future__ import annotations

import math

from reference_stack.schemas.api.openai import GenerationRequest
from reference_stack.services.ai_models.api_error import ApiError, bad_value
from reference_stack.services.ai_models.body import encodable
from reference_stack.services.ai_models.model_spec import ModelSpec

MAX_SEQUENCES = 16384  # vLLM's VLLM_MAX_N_SEQUENCES
MAX_LOGPROBS = 20


def too_long(max_model_len: int) -> ApiError:
    """Return the error of a prompt that does not fit."""
    least = max_model_len + 1
    message = (
        f"This model's maximum context length is {max_model_len} tokens. However, your prompt contains at least "
        f"{least} input tokens, which exceeds this limit even without any output tokens. Please reduce the length "
        "of the input prompt."
    )
    return bad_value(message, "input_tokens", least)


def output_limit(prompt_tokens: int, wanted: int, max_model_len: int, *, given: bool, field: str = "max_tokens") -> int:
    """Return the tokens that an answer may have; `field` asked for `wanted` where it was `given`."""
    if given and wanted < 1:
        raise bad_value(f"max_tokens must be at least 1, got {wanted}.", "max_tokens", wanted)
    if wanted > max_model_len:
        message = f"{field}={wanted} cannot be greater than {max_model_len=}. Please request fewer output tokens."
        raise bad_value(message, field, wanted)
    if prompt_tokens == max_model_len:
        raise bad_value("max_tokens must be at least 1, got 0.", "max_tokens", 0)
    if prompt_tokens > max_model_len:
        raise too_long(max_model_len)
    return min(wanted, max_model_len - prompt_tokens)


def check_sampling(body: GenerationRequest, limit: int, spec: ModelSpec) -> None:
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
    _check_repetition(body.repetition_penalty)
    _check_temperature(body.temperature)
    _check_cuts(body)
    if body.min_tokens < 0:
        raise ApiError(f"min_tokens must be greater than or equal to 0, got {body.min_tokens}.")
    if body.min_tokens > limit:
        raise ApiError(f"min_tokens must be less than or equal to max_tokens={limit}, got {body.min_tokens}.")
    if "" in stops(body):
        raise ApiError("stop cannot contain an empty string.")
    if "" in body.bad_words:
        raise ApiError(f"bad_words cannot contain an empty string. Got bad_words={body.bad_words}")
    _check_bias(body, spec.architecture.vocab)
    _check_engine(body)
    if n > 1 and body.temperature == 0:
        raise ApiError(f"n must be 1 when using greedy sampling, got {n}.")


def _check_repetition(penalty: float | None) -> None:
    if penalty is None:
        return
    if not math.isfinite(penalty):
        raise ApiError(f"repetition_penalty must be a finite number, got {penalty}.")
    if penalty <= 0:
        raise ApiError(f"repetition_penalty must be greater than zero, got {penalty}.")


def _check_temperature(temperature: float | None) -> None:
    if temperature is None:
        return
    if not math.isfinite(temperature):
        raise bad_value(f"temperature must be a finite number, got {temperature}.", "temperature", temperature)
    if temperature < 0:
        raise bad_value(f"temperature must be non-negative, got {temperature}.", "temperature", temperature)
    if temperature > 2:
        raise bad_value(f"temperature must be in [0, 2], got {temperature}.", "temperature", temperature)


def _check_cuts(body: GenerationRequest) -> None:
    """What of the distribution is left to draw from."""
    if body.top_p is not None and not 0 < body.top_p <= 1:
        raise bad_value(f"top_p must be in (0, 1], got {body.top_p}.", "top_p", body.top_p)
    if body.top_k is not None and body.top_k < -1:
        raise ApiError(f"top_k must be 0 (disable), or at least 1, got {body.top_k}.")
    if body.min_p is not None and not 0 <= body.min_p <= 1:
        raise ApiError(f"min_p must be in [0, 1], got {body.min_p}.")


def _check_engine(body: GenerationRequest) -> None:
    """What vLLM's engine, started as it is, cannot do or be told."""
    if not all(map(encodable, (*stops(body), *body.bad_words))) or (body.top_k or 0) >= 2**64:
        raise ApiError("", status=500)  # neither gets through to the engine's process
    if body.allowed_token_ids == []:
        raise bad_value("allowed_token_ids is not None and empty!", "allowed_token_ids", [])
    if body.thinking_token_budget is not None:
        raise ApiError(
            "thinking_token_budget is set but reasoning_config is not configured. Please set --reasoning-parser and/or "
            "--reasoning-config to use thinking_token_budget."
        )


def _check_bias(body: GenerationRequest, vocab: int) -> None:
    keys = list(body.logit_bias or {})
    odd = [key for key in keys if not (key.isascii() and key.isdecimal() and len(key) < 20)]
    if odd:
        message = f"logit_bias contains key(s) that cannot be converted to integer token IDs: {odd}"
        raise bad_value(message, "logit_bias", odd)
    unknown = [int(key) for key in keys if int(key) >= vocab]
    if unknown:
        message = f"token_id(s) {unknown} in logit_bias contain out-of-vocab token ids. Vocabulary size: {vocab}"
        raise bad_value(message, "logit_bias", unknown)


def check_logprobs(count: int | None, spec: ModelSpec) -> None:
    """Raise ApiError where `count` log probabilities of each token are too many; -1 means all."""
    if count is None:
        return
    _check_most("sample", spec.architecture.vocab if count == -1 else count, "logprobs")


def check_prompt_logprobs(body: GenerationRequest, spec: ModelSpec) -> None:
    """Raise ApiError where log probabilities of the prompt cannot be given."""
    count = body.prompt_logprobs
    if count is None:
        return
    _check_most("prompt", spec.architecture.vocab if count == -1 else count, "prompt_logprobs")


def _check_most(kind: str, count: int, field: str) -> None:
    if count > MAX_LOGPROBS:
        message = f"Requested {kind} logprobs of {count}, which is greater than max allowed: {MAX_LOGPROBS}"
        raise bad_value(message, field, count)


def stops(body: GenerationRequest) -> tuple[str, ...]:
    if body.stop is None:
        return ()
    return (body.stop,) if isinstance(body.stop, str) else tuple(body.stop)
