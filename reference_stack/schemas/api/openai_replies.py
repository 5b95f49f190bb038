"""Answers of the OpenAI API as vLLM gives them: what OpenAI's clients read, and vLLM's own fields beside it.

Strict: a field that is not here is an error, so that a server's answer is known to its last key.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class _Reply(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PromptTokensDetails(_Reply):
    cached_tokens: int | None = None
    created_cache_tokens: int | None = None
    audio_tokens: int | None = None
    multimodal_tokens: dict[str, int] | None = None


class CompletionTokensDetails(_Reply):
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None


class Usage(_Reply):
    prompt_tokens: int
    total_tokens: int
    completion_tokens: int | None = None
    prompt_tokens_details: PromptTokensDetails | None = None
    completion_tokens_details: CompletionTokensDetails | None = None


class FunctionCall(_Reply):
    name: str | None = None
    arguments: str | None = None


class ToolCall(_Reply):
    """A call of a tool; in a stream `index` says which one a piece belongs to, and the rest may come in pieces."""

    id: str | None = None
    type: Literal["function"] | None = None
    index: int | None = None
    function: FunctionCall


class Logprob(_Reply):
    token: str
    logprob: float
    bytes: list[int] | None = None


class TokenLogprob(Logprob):
    top_logprobs: list[Logprob] = []


class ChatLogprobs(_Reply):
    content: list[TokenLogprob] | None = None


class Message(_Reply):
    role: Literal["assistant"]
    content: str | None = None
    refusal: str | None = None
    annotations: Any = None
    audio: Any = None
    function_call: FunctionCall | None = None
    tool_calls: list[ToolCall] = []
    reasoning: str | None = None


class _Ends(_Reply):
    """How a choice ended, and what vLLM says beside it."""

    index: int
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter", "abort", "error"] | None = None
    stop_reason: int | str | None = None
    token_ids: list[int] | None = None
    routed_experts: Any = None


class ChatChoice(_Ends):
    message: Message
    logprobs: ChatLogprobs | None = None


class _Whole(_Reply):
    id: str
    created: int
    model: str
    system_fingerprint: str | None = None
    service_tier: str | None = None
    kv_transfer_params: dict[str, Any] | None = None
    ec_transfer_params: dict[str, Any] | None = None
    metrics: Any = None


class ChatCompletion(_Whole):
    """The answer to a chat request without streaming."""

    object: Literal["chat.completion"]
    choices: list[ChatChoice]
    usage: Usage
    prompt_logprobs: list[dict[str, Any] | None] | None = None
    prompt_token_ids: list[int] | None = None
    prompt_text: str | None = None


class Delta(_Reply):
    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCall] = []


class DeltaChoice(_Ends):
    delta: Delta
    logprobs: ChatLogprobs | None = None


class ChatCompletionChunk(_Whole):
    """One event of a chat stream; the one with the usage has no choices."""

    object: Literal["chat.completion.chunk"]
    choices: list[DeltaChoice]
    usage: Usage | None = None
    prompt_token_ids: list[int] | None = None
    prompt_text: str | None = None


class CompletionLogprobs(_Reply):
    text_offset: list[int]
    token_logprobs: list[float | None]
    tokens: list[str]
    top_logprobs: list[dict[str, float] | None]


class TextChoice(_Ends):
    text: str
    logprobs: CompletionLogprobs | None = None
    prompt_logprobs: list[dict[str, Any] | None] | None = None
    prompt_token_ids: list[int] | None = None


class Completion(_Whole):
    """The answer to a text request, and each event of its stream."""

    object: Literal["text_completion"]
    choices: list[TextChoice]
    usage: Usage | None = None


class Model(_Reply):
    """A model that can be asked; vLLM says more of it than OpenAI's API has."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    root: str | None = None
    parent: str | None = None
    max_model_len: int | None = None
    permission: list[dict[str, Any]] = []


class ModelList(_Reply):
    object: Literal["list"]
    data: list[Model]


class ErrorFacts(_Reply):
    """What went wrong; `request_id` is the gateway's."""

    message: str
    type: str
    param: str | None = None
    code: int | str | None = None
    request_id: str | None = None


class ErrorReply(_Reply):
    error: ErrorFacts
