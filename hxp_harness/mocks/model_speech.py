"""The answers of a mocked model: complete bodies and streams with vLLM's fields."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

_FINGERPRINT = "vllm-0.32.0-mock"
_WORD = " word"


def words_of(body: Mapping[str, object]) -> int:
    """Return the words of a prompt, at least 1: to the mock a word is a token."""
    prompt = body.get("prompt")
    texts: list[object] = list(prompt) if isinstance(prompt, list) else [prompt]
    messages = body.get("messages")
    if isinstance(messages, list):
        texts += [message.get("content") for message in messages if isinstance(message, dict)]
    return max(1, sum(len(text.split()) for text in texts if isinstance(text, str)))


def usage(prompt_tokens: int, output_tokens: int, **details: None) -> dict[str, object]:
    counts = {
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens + output_tokens,
        "completion_tokens": output_tokens,
    }
    return {**counts, **details}


def whole(body: Mapping[str, object], *, chat: bool, model: str, request_id: str) -> dict[str, object]:
    """Return the body of an answer that is not streamed."""
    tokens = _asked_tokens(body)
    count = _choices(body)
    choices = [_choice(index, body, _WORD * tokens, chat=chat) for index in range(count)]
    said: dict[str, object] = {
        "id": f"{'chatcmpl' if chat else 'cmpl'}-{request_id}",
        "object": "chat.completion" if chat else "text_completion",
        "created": 1,
        "model": model,
        "choices": choices,
        "service_tier": None,
        "system_fingerprint": _FINGERPRINT,
        "usage": usage(words_of(body), tokens * count, prompt_tokens_details=None, completion_tokens_details=None),
    }
    if chat:
        said |= {"prompt_logprobs": None, "prompt_token_ids": None, "prompt_text": None}
    return said | {"kv_transfer_params": None, "ec_transfer_params": None, "metrics": None}


def stream(body: Mapping[str, object], *, chat: bool, model: str, request_id: str) -> Iterator[bytes]:
    """Yield the events of a streamed answer."""
    for event in _events(body, chat=chat, model=model, request_id=request_id):
        yield b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n"
    yield b"data: [DONE]\n\n"


def _events(body: Mapping[str, object], *, chat: bool, model: str, request_id: str) -> Iterator[dict[str, object]]:
    options = body.get("stream_options")
    wanted = options if isinstance(options, dict) else {}
    prompt_tokens, tokens = words_of(body), _asked_tokens(body)
    base: dict[str, object] = {
        "id": f"{'chatcmpl' if chat else 'cmpl'}-{request_id}",
        "object": "chat.completion.chunk" if chat else "text_completion",
        "created": 1,
        "model": model,
    }

    def counted(so_far: int) -> dict[str, object]:
        running = usage(prompt_tokens, so_far, completion_tokens_details=None)
        return {"usage": running} if wanted.get("continuous_usage_stats") else {}

    if chat:
        role = {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
        yield base | {"choices": [role]} | counted(0) | {"prompt_token_ids": None, "prompt_text": None}
    for place in range(1, tokens + 1):
        last = place == tokens
        spoken: dict[str, object] = {"delta": {"content": _WORD}} if chat else {"text": _WORD}
        choice = {"index": 0, **spoken, "logprobs": None, "finish_reason": "length" if last else None}
        choice |= {"stop_reason": None} if last or not chat else {}
        ends = last and not wanted.get("include_usage")
        print_of = {"system_fingerprint": _FINGERPRINT} if ends else {}
        yield base | {"choices": [choice | {"token_ids": None}]} | counted(place) | print_of
    if wanted.get("include_usage"):
        yield base | {"choices": [], "usage": usage(prompt_tokens, tokens), "system_fingerprint": _FINGERPRINT}


def _choice(index: int, body: Mapping[str, object], text: str, *, chat: bool) -> dict[str, object]:
    ending: dict[str, object] = {"logprobs": None, "finish_reason": "length", "stop_reason": None, "token_ids": None}
    if chat:
        message = {"role": "assistant", "content": text, "refusal": None, "annotations": None, "audio": None}
        message |= {"function_call": None, "reasoning": None}
        return {"index": index, "message": message, **ending, "routed_experts": None}
    prompts = body.get("prompt")
    prompt = prompts[index] if isinstance(prompts, list) else prompts
    said = f"{prompt}{text}" if body.get("echo") else text
    nothing = {"prompt_logprobs": None, "prompt_token_ids": None, "routed_experts": None}
    return {"index": index, "text": said, **ending, **nothing}


def _choices(body: Mapping[str, object]) -> int:
    prompt, count = body.get("prompt"), body.get("n")
    return len(prompt) if isinstance(prompt, list) else count if isinstance(count, int) else 1


def _asked_tokens(body: Mapping[str, object]) -> int:
    asked = body.get("max_completion_tokens") or body.get("max_tokens")
    return asked if isinstance(asked, int) else 16
