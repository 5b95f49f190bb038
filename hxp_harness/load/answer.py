"""What the body of a response says: tokens with their times, usage, how it ended. Pure.

A body is given with its reads: which bytes came when. Nothing here knows sockets or clocks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from hxp_harness.load.chunk import Chunk, Usage, chunk_of, read_at_once
from hxp_harness.load.sse import Event, split_events
from hxp_harness.trace import ErrorKind

DETAIL_CHARACTERS = 200
_BROKEN_FINISHES = ("abort", "error")

_decoder = msgspec.json.Decoder()
NO_JSON = (ValueError, msgspec.DecodeError, RecursionError)  # msgspec has one for bad UTF-8 and one for depth


class Read(msgspec.Struct, frozen=True, gc=False):
    """One read that brought bytes of the body; times in nanoseconds on the monotonic clock."""

    end: int  # offset in the body behind its last byte
    lo_ns: int  # the socket was empty then: all bytes came later
    hi_ns: int  # all bytes had come by then
    last_lo_ns: int  # earliest arrival of its last byte: `hi_ns` where the kernel stamped that byte


@dataclass(slots=True)
class Answer:
    """What a body said. `token_lo_ns` and `token_hi_ns` bound the arrival of each token, in order."""

    token_lo_ns: list[int] = field(default_factory=list)
    token_hi_ns: list[int] = field(default_factory=list)
    chunks: int = 0
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    finish_reason: str = ""
    done: bool = False  # [DONE] was seen
    error: ErrorKind = ErrorKind.NONE
    detail: str = ""

    def fail(self, error: ErrorKind, detail: str = "") -> None:
        """Keep the first failure: what follows one is its consequence."""
        if self.error is ErrorKind.NONE:
            self.error = error
            self.detail = detail[:DETAIL_CHARACTERS]


def read_stream(body: bytes, reads: Sequence[Read]) -> Answer:
    """Return what the events of `body` say, without a judgement about its end: see `judge_end`."""
    answer = Answer()
    found = read_at_once(body)
    if found is not None:
        answer.done = found.done
        _take_all(zip(found.messages, found.ends, strict=True), reads, answer)
    else:
        _take_all(_one_by_one(body, answer), reads, answer)
    return answer


def _take_all(messages: Iterable[tuple[Chunk, int]], reads: Sequence[Read], answer: Answer) -> None:
    """Take messages, each with the offset behind its event."""
    position = 0
    for message, end in messages:
        while reads[position].end < end:
            position += 1
        usage = message.usage
        if usage is not None:
            if usage.prompt_tokens != answer.prompt_tokens or usage.prompt_tokens_details is not None:
                _take_usage(usage, answer)
            elif usage.completion_tokens is not None:
                answer.output_tokens = usage.completion_tokens
        count = _tokens(message, answer)
        if count:
            read = reads[position]
            lo_ns = read.last_lo_ns if end == read.end else read.lo_ns
            answer.chunks += 1
            if count == 1:
                answer.token_lo_ns.append(lo_ns)
                answer.token_hi_ns.append(read.hi_ns)
            else:
                answer.token_lo_ns += [lo_ns] * count
                answer.token_hi_ns += [read.hi_ns] * count


def _one_by_one(body: bytes, answer: Answer) -> Iterator[tuple[Chunk, int]]:
    """Yield the messages of a stream of any shape up to its end or its first failure, which `answer` gets to know."""
    for event in split_events(body):
        if event.data == b"[DONE]":
            answer.done = True
            return
        message = _message(event, answer)
        if message is None:
            return
        yield chunk_of(message), event.end


def judge_end(answer: Answer) -> None:
    """Fail a stream whose HTTP message is complete and which is not.

    Without a finish_reason it was cut. With one but without usage it was cut too, unless [DONE] says that there was
    nothing more to come. A server that never writes [DONE] but sent everything else did send everything.
    """
    if not answer.finish_reason:
        answer.fail(ErrorKind.TRUNCATED, "the stream ended without finish_reason")
    elif answer.output_tokens is None:
        if answer.done:
            answer.fail(ErrorKind.NO_USAGE, "the stream is complete but has no usage")
        else:
            answer.fail(ErrorKind.TRUNCATED, "the stream ended without usage and without [DONE]")
    elif not answer.chunks:
        answer.fail(ErrorKind.TRUNCATED, "the stream ended without content")


def read_whole(body: bytes, reads: Sequence[Read]) -> Answer:
    """Return what a response that is no stream says: one arrival, that of its last byte."""
    answer = Answer()
    try:
        message = _decoder.decode(body)
    except NO_JSON as error:
        answer.fail(ErrorKind.BAD_SSE, f"the body is not JSON: {error}")
        return answer
    if not isinstance(message, dict):
        answer.fail(ErrorKind.BAD_SSE, "the body is not a JSON object")
        return answer
    if message.get("error"):
        answer.fail(ErrorKind.STREAM_ERROR, said(message))
        return answer
    chunk = chunk_of(message)
    if chunk.usage is not None:
        _take_usage(chunk.usage, answer)
    if _tokens(chunk, answer):
        last = reads[bisect_left(reads, len(body), key=lambda read: read.end)]
        answer.chunks = 1
        answer.token_lo_ns.append(last.last_lo_ns)
        answer.token_hi_ns.append(last.hi_ns)
    answer.done = True
    judge_end(answer)
    return answer


def said(message: object) -> str:
    """Return the words of an error body as OpenAI, vLLM, FastAPI and others shape it, at most 200 characters."""
    words = message
    for key in ("error", "message", "detail"):
        if isinstance(words, dict) and key in words:
            words = words[key]
    return (words if isinstance(words, str) else msgspec.json.encode(words).decode())[:DETAIL_CHARACTERS]


def said_by(body: bytes) -> str:
    """Return the words of an error body, JSON or not."""
    try:
        return said(_decoder.decode(body))
    except NO_JSON:
        return body[:DETAIL_CHARACTERS].decode("utf-8", "replace").strip()


def _message(event: Event, answer: Answer) -> dict[str, object] | None:
    """Return the JSON object of an event, or None after a failure of the stream."""
    try:
        message = _decoder.decode(event.data)
    except NO_JSON as error:
        if event.name == b"error":
            answer.fail(ErrorKind.STREAM_ERROR, said_by(event.data))
        else:
            answer.fail(ErrorKind.BAD_SSE, f"an event is not JSON: {error}")
        return None
    if not isinstance(message, dict):
        answer.fail(ErrorKind.BAD_SSE, "an event is not a JSON object")
        return None
    if event.name == b"error" or message.get("error"):
        answer.fail(ErrorKind.STREAM_ERROR, said(message))
        return None
    return message


def _tokens(message: Chunk, answer: Answer) -> int:
    """Return how many tokens this message brings, 0 when it has no content.

    One, or as many as the running count of the server's usage grew. Tokens that were counted while their text was held
    back (half of a character) arrive with the text.
    """
    content = False
    for choice in message.choices or ():
        content = content or choice.has_content
        reason = choice.finish_reason
        if reason:
            answer.finish_reason = reason
            if reason in _BROKEN_FINISHES:
                answer.fail(ErrorKind.STREAM_ERROR, f"finish_reason is {reason}")
    if not content:
        return 0
    return max(1, (answer.output_tokens or 0) - len(answer.token_lo_ns))


def _take_usage(usage: Usage, answer: Answer) -> None:
    """Take what a usage says; what it does not say stays as it was."""
    if usage.prompt_tokens is not None:
        answer.prompt_tokens = usage.prompt_tokens
    if usage.completion_tokens is not None:
        answer.output_tokens = usage.completion_tokens
    details = usage.prompt_tokens_details
    if details is not None and details.cached_tokens is not None:
        answer.cached_tokens = details.cached_tokens
