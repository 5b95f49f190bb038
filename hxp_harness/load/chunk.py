"""What a message of an answer says, as far as we look: read at once where it is of OpenAI's shape, else by parts. Pure.

Real servers are of that shape, and a body of theirs is decoded in one call, which costs a quarter of looking at each
message by itself. Whatever is not so (another type in a field, an event of several lines) is taken leniently, with the
same result where both can read it.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0)]


class PromptDetails(msgspec.Struct, gc=False):
    cached_tokens: Count | None = None


class Usage(msgspec.Struct, gc=False):
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    prompt_tokens_details: PromptDetails | None = None


class Delta(msgspec.Struct, gc=False):
    """Each channel on which content may come."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[msgspec.Raw] | None = None

    @property
    def has_content(self) -> bool:
        return bool(self.content or self.reasoning_content or self.reasoning or self.tool_calls)


class Choice(msgspec.Struct, gc=False):
    delta: Delta | None = None
    message: Delta | None = None
    text: str | None = None
    finish_reason: str | None = None

    @property
    def has_content(self) -> bool:
        """Whether it brings text, reasoning or a tool call."""
        delta = self.delta
        if delta is not None and (delta.content or delta.has_content):  # by far the usual case first
            return True
        return bool(self.text) or (self.message is not None and self.message.has_content)


class Chunk(msgspec.Struct, gc=False):
    """One message."""

    choices: list[Choice] | None = None
    usage: Usage | None = None
    error: object = None


_decoder = msgspec.json.Decoder(Chunk)
_BEGIN, _BETWEEN = b"data: ", b"\n\ndata: "
_END, _DONE = b"}\n\n", b"}\n\ndata: [DONE]\n\n"


class Chunks(msgspec.Struct, gc=False):
    """The messages of a stream with the offset in its body behind each."""

    messages: list[Chunk]
    ends: list[int]
    done: bool  # [DONE] was seen


def read_at_once(body: bytes) -> Chunks | None:
    """Return the messages of a whole stream of OpenAI's shape; None where it is not quite that.

    Each event has to be one line that begins and ends as a JSON object does, so that no two lines can make up one.
    """
    done = body.endswith(_DONE)
    if not (body.startswith(_BEGIN) and (done or body.endswith(_END))):
        return None
    events = body[len(_BEGIN) : 1 - len(_DONE if done else _END)].split(_BETWEEN)
    lines = b"\n".join(events)
    between = len(events) - 1
    whole = lines.startswith(b"{") and lines.endswith(b"}") and lines.count(b"}\n{") == between
    if not whole or lines.count(b"\n") != between or b"\r" in lines:
        return None
    try:
        messages = _decoder.decode_lines(lines)
    except (ValueError, msgspec.DecodeError, RecursionError):
        return None
    if len(messages) != len(events):
        return None
    ends, end = [], len(_BEGIN) + 2 - len(_BETWEEN)
    for event, message in zip(events, messages, strict=True):
        if message.error:
            return None
        end += len(event) + len(_BETWEEN)
        ends.append(end)
    return Chunks(messages, ends, done)


def chunk_of(message: dict[str, object]) -> Chunk:
    """Return what a decoded message says; fields of another type than they should have say nothing."""
    choices, usage = message.get("choices"), message.get("usage")
    return Chunk(
        [_choice(one) for one in choices if isinstance(one, dict)] if isinstance(choices, list) else None,
        _usage(usage) if isinstance(usage, dict) else None,
    )


def _choice(choice: dict[str, object]) -> Choice:
    delta, message, reason = choice.get("delta"), choice.get("message"), choice.get("finish_reason")
    return Choice(
        _delta(delta) if isinstance(delta, dict) else None,
        _delta(message) if isinstance(message, dict) else None,
        _something(choice.get("text")),
        reason if isinstance(reason, str) else None,
    )


def _delta(delta: dict[str, object]) -> Delta:
    """Return the channels; content of any type is content."""
    calls = [msgspec.Raw(b"null")] if delta.get("tool_calls") else None
    content, *reasoning = (_something(delta.get(name)) for name in ("content", "reasoning_content", "reasoning"))
    return Delta(content, reasoning[0], reasoning[1], calls)


def _something(value: object) -> str | None:
    return value if isinstance(value, str) else (repr(value) if value else None)


def _usage(usage: dict[str, object]) -> Usage:
    details = usage.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else None
    return Usage(_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")), PromptDetails(cached))


def _count(value: object) -> int | None:
    """Return a number of tokens; 3.0 is one, True and -1 are none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or value != int(value):
        return None
    return int(value)
