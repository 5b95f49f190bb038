"""From the body of a request to what the engine has to make, or vLLM's error."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from reference_stack.schemas.api.openai import ChatRequest, CompletionRequest, GenerationRequest
from reference_stack.schemas.configuration.script import Script
from reference_stack.services.ai_models.api_error import ApiError
from reference_stack.services.ai_models.blocks import block_keys
from reference_stack.services.ai_models.body import encodable, read
from reference_stack.services.ai_models.logprobs import Named
from reference_stack.services.ai_models.messages import check_messages
from reference_stack.services.ai_models.precheck import before_chat, before_completion
from reference_stack.services.ai_models.prompt import Prompt, chat_prompt, completion_prompts, message_texts
from reference_stack.services.ai_models.reply import Reply, plan, say
from reference_stack.services.ai_models.sampling import (
    check_logprobs,
    check_prompt_logprobs,
    check_sampling,
    output_limit,
    stops,
)
from reference_stack.services.ai_models.scripted import Server, aborted, script_of, scripted_calls, scripted_reply
from reference_stack.services.ai_models.structured import Speech, constraint
from reference_stack.services.ai_models.tools import Call, call_of, chosen, free, named_choice
from reference_stack.services.ai_models.truncation import truncated


@dataclass(frozen=True, slots=True)
class Choice:
    """One choice: its reply, and the calls that the reply's text is, if it is one.

    `beside_calls` is the content of a message with calls: vLLM has none under `auto`, else the empty text.
    """

    reply: Reply
    calls: tuple[Call, ...] = ()
    beside_calls: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that will be served. Choices are in the order of prompts, `n` for each."""

    chat: bool
    prompts: tuple[Prompt, ...]
    salt: str | None  # requests of another salt share no KV with this one
    n: int
    max_tokens: int
    choices: tuple[Choice, ...]
    name: Named
    echo: bool
    only_echo: bool  # nothing is said beyond the prompt
    stream: bool
    include_usage: bool
    continuous_usage: bool
    logprobs: int | None  # how many likeliest tokens, None: no log probabilities
    prompt_logprobs: int | None
    token_ids: bool
    parsed: bool  # for calls of tools
    calls_free: bool  # the model may call a tool or not
    script: Script | None

    @property
    def prompt_tokens(self) -> int:
        return sum(len(prompt.tokens) for prompt in self.prompts)

    def prompt_of(self, choice: int) -> Prompt:
        return self.prompts[choice // self.n]

    def keys_of(self, choice: int) -> tuple[int, ...]:
        """Return the keys of the KV blocks of a choice's prompt and reply."""
        return block_keys(self.prompt_of(choice).tokens + self.choices[choice].reply.tokens, self.salt)

    @property
    def reads_cache(self) -> bool:
        """False where every position of the prompt has to be computed, for its log probabilities."""
        return self.prompt_logprobs is None


def check_model(name: str | None, served: str) -> None:
    """Raise ApiError (404) unless `name` is the served model; a missing or empty name means it."""
    if name and not encodable(name):
        raise ApiError("'utf-8' codec can't encode the model's name: surrogates not allowed")
    if name and name != served:
        raise ApiError(f"The model `{name}` does not exist. Valid aliases: {served}.", status=404, param="model")


def ask_chat(raw: bytes, server: Server) -> Asked:
    """Return what a chat request asks for."""
    spec = server.spec
    body = read(raw, ChatRequest, before_chat)
    messages = check_messages(body.messages)
    check_model(body.model, spec.name)
    if body.chat_template is not None:
        raise ApiError(
            "Chat template is passed with request, but --trust-request-chat-template is not set. Refused request with "
            "untrusted chat template."
        )
    prompt = chat_prompt(messages, spec)
    script = script_of(body, server)
    function = chosen(body, " ".join(message_texts(messages[-1], spec.name)), parses=server.parses_tools)
    field = "max_tokens" if body.max_completion_tokens is None else "max_completion_tokens"
    wanted: int | None = getattr(body, field)
    most = server.max_model_len
    (prompt,) = _truncated(body, (prompt,), most, wanted)
    limit = output_limit(
        len(prompt.tokens), most if wanted is None else wanted, most, given=wanted is not None, field=field
    )
    check_sampling(body, limit, spec)
    check_logprobs(body.top_logprobs, spec)
    speech = constraint(body)

    def choice(seed: int) -> Choice:
        calls: tuple[Call, ...] = scripted_calls(script)
        if not calls and (function is None or (script is not None and script.reply is not None)):
            return Choice(_reply(body, seed, limit, speech, script))
        if not calls and function is not None:
            calls = (call_of(function, random.Random(seed)),)  # noqa: S311 - replies, no secrets
        reply = say("".join(call.text for call in calls), limit)
        ended = reply.finish_reason == "stop" and not named_choice(body)
        beside = None if body.tool_choice in (None, "auto") else ""
        return Choice(aborted(Reply(reply.tokens, "tool_calls") if ended else reply, script), calls, beside)

    logprobs = body.top_logprobs or 0 if body.logprobs else None
    choices = tuple(choice(seed) for seed in _seeds(body, (prompt,), server.seed))
    return _asked(body, server, script, prompts=(prompt,), limit=limit, choices=choices, logprobs=logprobs)


def ask_completion(raw: bytes, server: Server) -> Asked:
    """Return what a text completion asks for."""
    spec = server.spec
    body = read(raw, CompletionRequest, before_completion)
    check_model(body.model, spec.name)
    if body.suffix is not None:
        raise ApiError("suffix is only supported for models with FIM completion rendering", param="suffix")
    prompts = _truncated(body, completion_prompts(body, spec), server.max_model_len, body.max_tokens)
    longest = max(len(prompt.tokens) for prompt in prompts)
    only_echo = bool(body.echo) and body.max_tokens == 0
    wanted = 1 if only_echo else 16 if body.max_tokens is None else body.max_tokens
    limit = output_limit(longest, wanted, server.max_model_len, given=body.max_tokens is not None)
    check_sampling(body, limit, spec)
    check_logprobs(body.logprobs, spec)
    speech = constraint(body)
    script = script_of(body, server)
    choices = tuple(Choice(_reply(body, seed, limit, speech, script)) for seed in _seeds(body, prompts, server.seed))
    return _asked(
        body,
        server,
        script,
        prompts=prompts,
        limit=limit,
        choices=choices,
        logprobs=body.logprobs,
        echo=bool(body.echo),
    )


def _truncated(
    body: GenerationRequest, prompts: Sequence[Prompt], max_model_len: int, wanted: int | None
) -> tuple[Prompt, ...]:
    keep, side = body.truncate_prompt_tokens, body.truncation_side or "left"
    cut = truncated(prompts, keep, side, max_model_len, answers=bool(wanted))
    if any(not prompt.tokens for prompt in cut):
        raise ApiError("The decoder prompt cannot be empty")
    return cut


def _of_the_prompt(body: GenerationRequest, logprobs: int | None, *, echo: bool) -> int | None:
    """Return how many log probabilities each token of the prompt gets; an echo has them unasked."""
    if body.prompt_logprobs is not None:
        return body.prompt_logprobs
    if isinstance(body, ChatRequest):
        return body.top_logprobs or 0 if body.echo and not body.stream else None
    return logprobs if echo else None


def _seeds(body: GenerationRequest, prompts: tuple[Prompt, ...], seed: int) -> list[int]:
    greedy = body.temperature == 0
    own = 0 if greedy or body.seed is None else body.seed
    firsts = [zlib.crc32(prompt.text.encode("utf-8", "surrogatepass")) + own + seed for prompt in prompts]
    return [first + i for first in firsts for i in range(1 if body.n is None else body.n)]


def _reply(body: GenerationRequest, seed: int, limit: int, speech: Speech | None, script: Script | None) -> Reply:
    return aborted(scripted_reply(script, limit) or _own_reply(body, seed, limit, speech), script)


def _own_reply(body: GenerationRequest, seed: int, limit: int, speech: Speech | None) -> Reply:
    if speech is not None:
        text = speech(random.Random(seed))  # noqa: S311 - replies, no secrets
        return say(text, limit, stop=stops(body), include_stop=body.include_stop_str_in_output)
    return plan(
        seed,
        limit,
        ignore_eos=body.ignore_eos,
        min_tokens=body.min_tokens,
        stop=stops(body),
        include_stop=body.include_stop_str_in_output,
    )


def _asked(
    body: GenerationRequest,
    server: Server,
    script: Script | None,
    *,
    prompts: tuple[Prompt, ...],
    limit: int,
    choices: tuple[Choice, ...],
    logprobs: int | None,
    echo: bool = False,
) -> Asked:
    check_prompt_logprobs(body, server.spec)
    options = body.stream_options
    include_usage = options is not None and bool(options.include_usage)
    return Asked(
        chat=isinstance(body, ChatRequest),
        prompts=prompts,
        salt=body.cache_salt,
        n=len(choices) // len(prompts),
        max_tokens=limit,
        choices=choices,
        name=Named(server.spec.architecture.vocab, by_number=bool(body.return_tokens_as_token_ids)),
        echo=echo,
        only_echo=echo and body.max_tokens == 0,
        stream=bool(body.stream),
        include_usage=include_usage,
        continuous_usage=include_usage and bool(options and options.continuous_usage_stats),
        logprobs=logprobs,
        prompt_logprobs=_of_the_prompt(body, logprobs, echo=echo),
        token_ids=bool(body.return_token_ids),
        parsed=server.parses_tools,
        calls_free=isinstance(body, ChatRequest) and free(body),
        script=script,
    )
