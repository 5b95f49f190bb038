"""The bytes of an OpenAI-compatible answer, as vLLM writes them."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import msgspec

REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 429: "Too Many Requests"}
DONE = b"data: [DONE]\n\n"
LAST_CHUNK = b"0\r\n\r\n"


def chunk(body: bytes) -> bytes:
    """Return `body` as one chunk of a chunked transfer."""
    return b"%x\r\n%b\r\n" % (len(body), body)


def stream_head(request_id: str) -> bytes:
    """Return the head of a streamed answer."""
    return (
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
        f"transfer-encoding: chunked\r\nx-request-id: {request_id}\r\n\r\n"
    ).encode("latin-1")


def answer(status: int, body: object, request_id: str = "") -> bytes:
    """Return a complete answer with a JSON body."""
    text = msgspec.json.encode(body) if body is not None else b""
    extra = f"x-request-id: {request_id}\r\n" if request_id else ""
    head = (
        f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(text)}\r\n{extra}\r\n"
    )
    return head.encode("latin-1") + text


def error(status: int, message: str) -> dict[str, object]:
    """Return vLLM's error body."""
    kinds = {404: "NotFoundError", 400: "BadRequestError"}
    kind = kinds.get(status, "InternalServerError" if status >= 500 else "Error")
    return {"error": {"message": message, "type": kind, "param": None, "code": status}}


def no_model(asked: object, model: str) -> dict[str, object]:
    """Return vLLM's answer to a request for a model that is not served."""
    told = f"The model `{asked}` does not exist. Valid aliases: {model}."
    return {"error": {"message": told, "type": "NotFoundError", "param": "model", "code": 404}}


def models(model: str) -> dict[str, object]:
    """Return the body of GET /v1/models."""
    row = {"id": model, "object": "model", "created": 1, "owned_by": "golden", "root": model, "max_model_len": 1 << 20}
    return {"object": "list", "data": [row]}


def usage(prompt_tokens: int, output_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens + output_tokens,
        "completion_tokens": output_tokens,
    }


class Speech:
    """Writes the events and the body of one request.

    `chat` chooses between chat.completion and text_completion; words are " t0", " t1", ... so that order shows, or
    begin with another `letter`.
    """

    def __init__(
        self,
        request_id: str,
        model: str,
        *,
        chat: bool,
        prompt_tokens: int,
        continuous_usage: bool,
        letter: bytes = b"t",
    ) -> None:
        self._letter = letter
        self._chat = chat
        self._prompt_tokens = prompt_tokens
        self._continuous_usage = continuous_usage
        self._id = f"{'chatcmpl' if chat else 'cmpl'}-{request_id}"
        self._model = model
        kind = "chat.completion.chunk" if chat else "text_completion"
        start = f'data: {{"id":{_quoted(self._id)},"object":"{kind}","created":1,"model":{_quoted(model)},"choices":['
        self._start = start.encode()

    def role(self) -> bytes:
        """Return the event that names the role and carries no token."""
        return self._start + b'{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'

    def tokens(self, first: int, count: int, *, reasoning: bool, finish: str) -> bytes:
        """Return the event with tokens first .. first + count - 1; `finish` is its finish_reason or empty."""
        text = b"".join(b" %b%d" % (self._letter, number) for number in range(first, first + count))
        if self._chat:
            body = b'{"index":0,"delta":{"%b":"%b"},"logprobs":null,"finish_reason":%b}]' % (
                b"reasoning" if reasoning else b"content",
                text,
                _reason(finish),
            )
        else:
            body = b'{"index":0,"text":"%b","logprobs":null,"finish_reason":%b}]' % (text, _reason(finish))
        if not self._continuous_usage:
            return self._start + body + b"}\n\n"
        told = msgspec.json.encode(usage(self._prompt_tokens, first + count))
        return self._start + body + b',"usage":' + told + b"}\n\n"

    def usage(self, output_tokens: int) -> bytes:
        """Return the event that carries only the usage."""
        told = msgspec.json.encode(usage(self._prompt_tokens, output_tokens))
        return self._start + b'],"usage":' + told + b"}\n\n"

    @staticmethod
    def error() -> bytes:
        """Return an error event."""
        return b"data: " + msgspec.json.encode(error(500, "the engine died")) + b"\n\n"

    def body(self, output_tokens: int, *, reasoning_tokens: int, finish: str, with_usage: bool) -> dict[str, object]:
        """Return the body of an answer without streaming."""
        letter = self._letter.decode()
        said = "".join(f" {letter}{number}" for number in range(reasoning_tokens, output_tokens))
        choice: dict[str, object] = {"index": 0, "logprobs": None, "finish_reason": finish}
        if self._chat:
            thought = "".join(f" t{number}" for number in range(min(reasoning_tokens, output_tokens))) or None
            choice["message"] = {"role": "assistant", "content": said, "reasoning": thought}
        else:
            choice["text"] = said
        whole: dict[str, object] = {
            "id": self._id,
            "object": "chat.completion" if self._chat else "text_completion",
            "created": 1,
            "model": self._model,
            "choices": [choice],
        }
        if with_usage:
            whole["usage"] = usage(self._prompt_tokens, output_tokens)
        return whole


def count_words(request: Mapping[str, object]) -> int:
    """Return the words of a request's prompt: to the golden server a word is a token."""
    prompt = request.get("prompt")
    texts: list[object] = list(prompt) if isinstance(prompt, list) else [prompt]
    messages = request.get("messages")
    if isinstance(messages, list):
        texts = [message.get("content") for message in messages if isinstance(message, dict)]
    return sum(len(text.split()) for text in texts if isinstance(text, str))


@functools.lru_cache(maxsize=16)
def _reason(finish: str) -> bytes:
    return msgspec.json.encode(finish or None)


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()
