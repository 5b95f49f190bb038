"""vLLM's answers as bytes: a plain token's chunk is joined from parts made once a request, with no JSON encoder."""

from __future__ import annotations

import functools
import json

from reference_stack.services.ai_models.choices import Choices
from reference_stack.services.ai_models.physics import BLOCK_TOKENS
from reference_stack.services.ai_models.request import Asked

DONE = b"data: [DONE]\n\n"


def dumps(value: object) -> bytes:
    """Return compact JSON; a lone surrogate becomes a question mark, as nothing else can carry it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


@functools.lru_cache(4096)
def _text(text: str) -> bytes:
    return dumps(text)


class Wire:
    """The bytes of one answer. `fingerprint` tells every reader that it was simulated.

    `details` says whether usage tells how many prompt tokens were cached.
    """

    def __init__(
        self, asked: Asked, answer_id: str, created: int, model: str, fingerprint: str, *, details: bool = False
    ) -> None:
        self._asked = asked
        self.choices = Choices(asked)
        self._fingerprint = fingerprint
        self._details = details
        self._base = {"id": answer_id, "created": created, "model": model}
        kind = "chat.completion.chunk" if asked.chat else "text_completion"
        head = {"id": answer_id, "object": kind, "created": created, "model": model}
        self._head = b"data: " + dumps(head)[:-1] + b',"choices":['
        self._signature = b',"system_fingerprint":' + dumps(fingerprint)
        key = b'{"index":%d,"delta":{"content":' if asked.chat else b'{"index":%d,"text":'
        self._starts = [self._head + key % i for i in range(len(asked.choices))]
        self._middle = (
            b'},"logprobs":null,"finish_reason":null,"token_ids":null}]'
            if asked.chat
            else b',"logprobs":null,"finish_reason":null,"stop_reason":null,"prompt_token_ids":null,"token_ids":null}]'
        )
        self._plain = asked.logprobs is None and not asked.token_ids and not asked.echo

    @property
    def tokens(self) -> int:
        """Tokens of all replies."""
        return sum(len(choice.reply.tokens) for choice in self._asked.choices)

    def role(self, choice: int) -> bytes:
        """Return the event that only names the role (chat)."""
        delta = b'{"index":%d,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]' % choice
        ids = dumps(self.choices.prompt_ids(choice)) if self._asked.token_ids else b"null"
        return self._head + delta + self._usage(choice, 0) + b',"prompt_token_ids":' + ids + b',"prompt_text":null}\n\n'

    def token(self, choice: int, place: int) -> bytes:
        """Return the event of the token at `place` (from 0); the last one says why the reply ends.

        Empty where the token is sent with a later one, or not at all.
        """
        one = self._asked.choices[choice]
        tokens = one.reply.tokens
        last = place + 1 == len(tokens)
        usage = self._usage(choice, place + 1)
        if self._plain and not last and not one.calls:
            return self._starts[choice] + _text(tokens[place]) + self._middle + usage + b"}\n\n"
        chunk = self.choices.chunk(choice, place)
        if chunk is None:
            return b""
        signature = self._signature if last and not self._asked.include_usage else b""
        return self._head + dumps(chunk) + b"]" + signature + usage + b"}\n\n"

    def end(self, cached: int = 0) -> bytes:
        """Return what closes a stream: usage if it was asked for, with the `cached` prompt tokens, then [DONE]."""
        if not self._asked.include_usage:
            return DONE
        usage = self._total()
        if self._details:
            told = self._prompt_details(cached)
            usage["prompt_tokens_details"] = {key: value for key, value in told.items() if value is not None}
        return self._head + b'],"usage":' + dumps(usage) + self._signature + b"}\n\n" + DONE

    def whole(self, cached: int = 0) -> bytes:
        """Return the answer of a request without streaming."""
        asked = self._asked
        details = self._prompt_details(cached) if self._details else None
        body: dict[str, object] = {
            "id": self._base["id"],
            "object": "chat.completion" if asked.chat else "text_completion",
            "created": self._base["created"],
            "model": self._base["model"],
            "choices": [self.choices.whole(i) for i in range(len(asked.choices))],
            "service_tier": None,
            "system_fingerprint": self._fingerprint,
            "usage": self._total() | {"prompt_tokens_details": details, "completion_tokens_details": None},
        }
        if asked.chat:
            ids = self.choices.prompt_ids(0) if asked.token_ids else None
            logprobs = self.choices.prompt_logprobs(0)
            body |= {"prompt_logprobs": logprobs, "prompt_token_ids": ids, "prompt_text": None}
        body |= {"kv_transfer_params": None, "ec_transfer_params": None, "metrics": None}
        return dumps(body)

    def _usage(self, choice: int, tokens: int) -> bytes:
        if not self._asked.continuous_usage:
            return b""
        prompt = len(self._asked.prompt_of(choice).tokens)
        details = b',"completion_tokens_details":null' if self._asked.chat else b""
        counts = b',"usage":{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d' % (
            prompt,
            prompt + tokens,
            tokens,
        )
        return counts + details + b"}"

    def _total(self) -> dict[str, object]:
        prompt = self._asked.prompt_tokens
        return {"prompt_tokens": prompt, "total_tokens": prompt + self.tokens, "completion_tokens": self.tokens}

    def _prompt_details(self, cached: int) -> dict[str, int | None]:
        created = self._asked.prompt_tokens // BLOCK_TOKENS * BLOCK_TOKENS - cached if self._asked.chat else None
        return {"cached_tokens": cached, "created_cache_tokens": created, "multimodal_tokens": None}
