"""vLLM's answers as bytes: chunks are joined from parts made once a request, so that a token costs no JSON encoder."""

from __future__ import annotations

import json

from reference_stack.services.ai_models.request import Asked

DONE = b"data: [DONE]\n\n"


def dumps(value: object) -> bytes:
    """Return compact JSON; a lone surrogate becomes a question mark, as nothing else can carry it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


def _text(text: str) -> bytes:
    return dumps(text)


class Wire:
    """The bytes of one answer. `fingerprint` tells every reader that it was simulated."""

    def __init__(self, asked: Asked, answer_id: str, created: int, model: str, fingerprint: str) -> None:
        self._asked = asked
        self._fingerprint = fingerprint
        self._base = {"id": answer_id, "created": created, "model": model}
        kind = "chat.completion.chunk" if asked.chat else "text_completion"
        head = {"id": answer_id, "object": kind, "created": created, "model": model}
        self._head = b"data: " + dumps(head)[:-1] + b',"choices":['
        key = b'{"index":%d,"delta":{"content":' if asked.chat else b'{"index":%d,"text":'
        self._starts = [self._head + key % i for i in range(len(asked.replies))]
        close = b"}" if asked.chat else b""
        tail = b',"token_ids":null}]' if asked.chat else b',"prompt_token_ids":null,"token_ids":null}]'
        stop = b"" if asked.chat else b',"stop_reason":null'
        self._middle = close + b',"logprobs":null,"finish_reason":null' + stop + tail
        self._last = close + b',"logprobs":null,"finish_reason":"%s","stop_reason":%s' + tail
        self._signature = b',"system_fingerprint":' + dumps(fingerprint)

    def role(self, choice: int) -> bytes:
        """Return the event that only names the role (chat)."""
        delta = b'{"index":%d,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]' % choice
        usage = self._usage(choice, 0)
        return self._head + delta + usage + b',"prompt_token_ids":null,"prompt_text":null}\n\n'

    def token(self, choice: int, place: int) -> bytes:
        """Return the event of the token at `place` (from 0); the last one says why the reply ends."""
        asked = self._asked
        reply = asked.replies[choice]
        text = reply.tokens[place]
        if place == 0 and asked.echoes[choice]:
            text = asked.echoes[choice] + text
        usage = self._usage(choice, place + 1) if asked.continuous_usage else b""
        if place + 1 < len(reply.tokens):
            return self._starts[choice] + _text(text) + self._middle + usage + b"}\n\n"
        last = self._last % (reply.finish_reason.encode(), dumps(reply.stop_reason))
        signature = b"" if asked.include_usage else self._signature
        return self._starts[choice] + _text(text) + last + usage + signature + b"}\n\n"

    def end(self, cached: int = 0) -> bytes:
        """Return what closes a stream: the usage if it was asked for, then [DONE]. `cached` tokens are told if any."""
        if not self._asked.include_usage:
            return DONE
        details = {"prompt_tokens_details": {"cached_tokens": cached}} if cached else {}
        usage = b'],"usage":' + dumps(self._total() | details) + self._signature + b"}\n\n"
        return self._head + usage + DONE

    def whole(self, cached: int = 0) -> bytes:
        """Return the answer of a request without streaming."""
        asked = self._asked
        choices = [self._chat_choice(i) if asked.chat else self._text_choice(i) for i in range(len(asked.replies))]
        details = {"cached_tokens": cached} if cached else None
        usage = self._total() | {"prompt_tokens_details": details, "completion_tokens_details": None}
        body: dict[str, object] = {
            "id": self._base["id"],
            "object": "chat.completion" if asked.chat else "text_completion",
            "created": self._base["created"],
            "model": self._base["model"],
            "choices": choices,
            "service_tier": None,
            "system_fingerprint": self._fingerprint,
            "usage": usage,
        }
        if asked.chat:
            body |= {"prompt_logprobs": None, "prompt_token_ids": None, "prompt_text": None}
        body |= {"kv_transfer_params": None, "ec_transfer_params": None, "metrics": None}
        return dumps(body)

    def _usage(self, choice: int, tokens: int) -> bytes:
        if not self._asked.continuous_usage:
            return b""
        prompt = self._asked.prompt_tokens_of(choice)
        details = b',"completion_tokens_details":null' if self._asked.chat else b""
        counts = b',"usage":{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d' % (
            prompt,
            prompt + tokens,
            tokens,
        )
        return counts + details + b"}"

    def _total(self) -> dict[str, object]:
        prompt = self._asked.prompt_tokens
        output = sum(len(reply.tokens) for reply in self._asked.replies)
        return {"prompt_tokens": prompt, "total_tokens": prompt + output, "completion_tokens": output}

    def _chat_choice(self, index: int) -> dict[str, object]:
        message = {
            "role": "assistant",
            "content": "".join(self._asked.replies[index].tokens),
            "refusal": None,
            "annotations": None,
            "audio": None,
            "function_call": None,
            "reasoning": None,
        }
        return {"index": index, "message": message, **self._ending(index)}

    def _text_choice(self, index: int) -> dict[str, object]:
        text = self._asked.echoes[index] + "".join(self._asked.replies[index].tokens)
        ending = self._ending(index)
        routed = ending.pop("routed_experts")
        extra = {"prompt_logprobs": None, "prompt_token_ids": None, "routed_experts": routed}
        return {"index": index, "text": text, **ending, **extra}

    def _ending(self, index: int) -> dict[str, object]:
        reply = self._asked.replies[index]
        return {
            "logprobs": None,
            "finish_reason": reply.finish_reason,
            "stop_reason": reply.stop_reason,
            "token_ids": None,
            "routed_experts": None,
        }
