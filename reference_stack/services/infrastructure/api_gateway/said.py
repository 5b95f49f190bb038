"""What the client is told of a model's server that does not answer 200."""

from __future__ import annotations

from collections.abc import Iterable

from reference_stack.services.infrastructure.api_gateway.refusal import Refusal, bad_request, bad_upstream

# More of a refusal than this is not read.
LONGEST_WORDS_BYTES = 64 * 1024
_DIGITS = 20
_CONTEXT_WORDS = (b"max_model_len", b"maximum context length", b"context length")


def header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes:
    """Return the value of the first header of that name, b"" when there is none."""
    return next((value for each, value in headers if each == name), b"")


def refusal_from(status: int, headers: Iterable[tuple[bytes, bytes]], words: bytes) -> Refusal:
    """Return the refusal that stands for this answer.

    The server's own words stay here: they repeat values of the request, and tell of its insides.
    """
    if status in (429, 503):
        asked = header(headers, b"retry-after")
        wait_s = min(int(asked), 60) if asked.isdigit() and len(asked) < _DIGITS else 1
        return Refusal(status, "model_overloaded", "the model is overloaded", retry_after_s=max(wait_s, 1))
    if status in (400, 422):
        if any(each in words for each in _CONTEXT_WORDS):
            message = "the prompt, or the prompt and the tokens asked for, exceed what the model can hold"
            return bad_request("context_length_exceeded", message)
        return bad_request("refused_by_model", "the model's server refused the request's parameters")
    return bad_upstream(f"the model's server answered with status {status}")
