"""From the body of a request to what the engine has to make, or vLLM's error."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from reference_stack.schemas.api.openai import ChatRequest, CompletionRequest, GenerationRequest
from reference_stack.services.ai_models.api_error import ApiError
from reference_stack.services.ai_models.blocks import block_keys
from reference_stack.services.ai_models.body import read
from reference_stack.services.ai_models.model_spec import ModelSpec
from reference_stack.services.ai_models.prompt import Prompt, chat_prompt, completion_prompts
from reference_stack.services.ai_models.reply import Reply, plan
from reference_stack.services.ai_models.sampling import (
    check_logprobs,
    check_sampling,
    check_stream,
    output_limit,
    stops,
    unsupported,
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that will be served: for each choice its prompt's tokens, its planned reply and text to echo."""

    chat: bool
    prompts: tuple[Prompt, ...]
    salt: str | None  # requests of another salt share no KV with this one
    n: int  # choices for each prompt
    max_tokens: int
    replies: tuple[Reply, ...]
    echoes: tuple[str, ...]
    stream: bool
    include_usage: bool
    continuous_usage: bool

    @property
    def prompt_tokens(self) -> int:
        return sum(len(prompt.tokens) for prompt in self.prompts)

    def prompt_tokens_of(self, choice: int) -> int:
        return len(self.prompts[choice // self.n].tokens)

    def keys_of(self, choice: int) -> tuple[int, ...]:
        """Return the keys of the KV blocks of a choice's prompt and reply."""
        return block_keys(self.prompts[choice // self.n].tokens + self.replies[choice].tokens, self.salt)


def check_model(name: str | None, served: str) -> None:
    """Raise ApiError (404) unless `name` is the served model; a missing or empty name means it."""
    if name and name != served:
        raise ApiError(f"The model `{name}` does not exist. Valid aliases: {served}.", status=404, param="model")


def ask_chat(raw: bytes, spec: ModelSpec, max_model_len: int, seed: int) -> Asked:
    """Return what a chat request asks for. `seed` chooses among replies where the request has none."""
    body = read(raw, ChatRequest)
    check_stream(body)
    if body.top_logprobs and not body.logprobs:
        raise ApiError(
            "when using `top_logprobs`, `logprobs` must be set to true. (parameter=top_logprobs)", param="top_logprobs"
        )
    if body.tool_choice not in (None, "none", "auto") and not body.tools:
        raise ApiError("When using `tool_choice`, `tools` must be set. (parameter=tool_choice)", param="tool_choice")
    check_model(body.model, spec.name)
    prompt = chat_prompt(body.messages, spec)
    wanted = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    length = len(prompt.tokens)
    limit = output_limit(length, max_model_len if wanted is None else wanted, max_model_len, given=wanted is not None)
    check_sampling(body, limit, spec)
    check_logprobs(body.top_logprobs if body.logprobs else None)
    if body.tool_choice not in (None, "none", "auto"):
        raise unsupported("tool_choice")
    return _asked(body, chat=True, prompts=(prompt,), limit=limit, echo=False, seed=seed)


def ask_completion(raw: bytes, spec: ModelSpec, max_model_len: int, seed: int) -> Asked:
    """Return what a text completion asks for."""
    body = read(raw, CompletionRequest)
    check_stream(body)
    check_model(body.model, spec.name)
    if body.suffix:
        raise ApiError("suffix is only supported for models with FIM completion rendering", param="suffix")
    prompts = completion_prompts(body, spec)
    longest = max(len(prompt.tokens) for prompt in prompts)
    wanted = 16 if body.max_tokens is None else body.max_tokens
    limit = output_limit(longest, wanted, max_model_len, given=body.max_tokens is not None)
    check_sampling(body, limit, spec)
    check_logprobs(body.logprobs)
    return _asked(body, chat=False, prompts=prompts, limit=limit, echo=bool(body.echo), seed=seed)


def _asked(
    body: GenerationRequest, *, chat: bool, prompts: tuple[Prompt, ...], limit: int, echo: bool, seed: int
) -> Asked:
    n = 1 if body.n is None else body.n
    greedy = body.temperature == 0
    own = 0 if greedy or body.seed is None else body.seed
    replies = []
    for prompt in prompts:
        first = zlib.crc32(prompt.text.encode("utf-8", "surrogatepass")) + own + seed
        replies += [
            plan(
                first + (0 if greedy else i),
                limit,
                ignore_eos=body.ignore_eos,
                min_tokens=body.min_tokens,
                stop=stops(body),
                include_stop=body.include_stop_str_in_output,
            )
            for i in range(n)
        ]
    options = body.stream_options
    return Asked(
        chat=chat,
        prompts=prompts,
        salt=body.cache_salt,
        n=n,
        max_tokens=limit,
        replies=tuple(replies),
        echoes=tuple(prompt.text if echo else "" for prompt in prompts for _ in range(n)),
        stream=bool(body.stream),
        include_usage=options is not None and bool(options.include_usage),
        continuous_usage=options is not None and bool(options.include_usage) and bool(options.continuous_usage_stats),
    )
