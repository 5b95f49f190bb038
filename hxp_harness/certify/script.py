"""What the golden server sends, and when: pure, from a behaviour and a request."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Literal, NamedTuple

from hxp_harness.certify import wire
from hxp_harness.certify.behaviour import Behaviour

Then = Literal["", "end", "close", "reset"]


class Step(NamedTuple):
    """One write. `due_s` is relative to the start; `tokens` > 0 if the write completes an event with that many."""

    due_s: float
    payload: bytes
    tokens: int = 0
    then: Then = ""  # end: the answer is complete; close, reset: the connection goes
    ended: str = ""  # how the answer ended, at its last step


def token_times(behaviour: Behaviour, tokens: int, seed: str) -> list[float]:
    """Return when each token is due in seconds from the start, never decreasing."""
    draw = random.Random(seed)  # noqa: S311 - jitter, no secret
    times: list[float] = []
    for number in range(tokens):
        due_s = behaviour.ttft_s + number * behaviour.itl_s
        if behaviour.jitter_s:
            due_s += draw.random() * behaviour.jitter_s
        if 0 <= behaviour.stall_at <= number:
            due_s += behaviour.stall_s
        times.append(max(due_s, times[-1]) if times else due_s)
    return times


def streamed(behaviour: Behaviour, speech: wire.Speech, tokens: int, request_id: str, seed: str) -> Iterator[Step]:
    """Yield the writes of a streamed answer."""
    yield Step(0.0, wire.stream_head(request_id))
    if behaviour.role == "early":
        yield Step(0.0, wire.chunk(speech.role()))
    times = token_times(behaviour, tokens, seed)
    if behaviour.role == "first" and times:
        yield Step(times[0], wire.chunk(speech.role()))
    step = behaviour.tokens_per_event
    for first in range(0, tokens, step):
        count = min(step, tokens - first)
        due_s = times[first + count - 1]
        inside = range(first, first + count)
        broken = _broken(behaviour, speech, inside, due_s)
        if broken is not None:
            yield broken
            return
        finish = behaviour.finish_reason if first + count >= tokens else ""
        reasoning = first < behaviour.reasoning_tokens
        event = wire.chunk(speech.tokens(first, count, reasoning=reasoning, finish=finish))
        if behaviour.split_every or behaviour.split_at in inside:
            middle = len(event) // 2
            yield Step(due_s, event[:middle])
            yield Step(due_s + behaviour.split_s, event[middle:], count)
        else:
            yield Step(due_s, event, count)
    last_s = (times[-1] if times else behaviour.ttft_s) + (behaviour.split_s if behaviour.split_every else 0.0)
    tail = wire.chunk(speech.usage(tokens)) if behaviour.usage else b""
    tail += wire.chunk(wire.DONE) if behaviour.done else b""
    yield Step(last_s, tail + wire.LAST_CHUNK, then="end", ended="complete")


def _broken(behaviour: Behaviour, speech: wire.Speech, tokens: range, due_s: float) -> Step | None:
    """Return the write that breaks the stream at one of `tokens`, if one does."""
    if behaviour.error_at in tokens:
        tail = wire.chunk(speech.error()) + (wire.chunk(wire.DONE) if behaviour.done else b"")
        return Step(due_s, tail + wire.LAST_CHUNK, then="end", ended="error")
    if behaviour.abort_at in tokens:
        return Step(due_s, b"", then="close", ended="abort")
    if behaviour.reset_at in tokens:
        return Step(due_s, b"", then="reset", ended="reset")
    return None


def whole(behaviour: Behaviour, speech: wire.Speech, tokens: int, request_id: str, seed: str) -> Iterator[Step]:
    """Yield the one write of an answer without streaming, at the time of its last token."""
    due_s = max(token_times(behaviour, tokens, seed), default=behaviour.ttft_s)
    broken = _broken_whole(behaviour, due_s)
    if broken is not None:
        yield broken
        return
    body = speech.body(
        tokens,
        reasoning_tokens=behaviour.reasoning_tokens,
        finish=behaviour.finish_reason,
        with_usage=behaviour.usage,
    )
    yield Step(due_s, wire.answer(200, body, request_id), tokens, then="end", ended="complete")


def _broken_whole(behaviour: Behaviour, due_s: float) -> Step | None:
    if behaviour.reset_at >= 0:
        return Step(due_s, b"", then="reset", ended="reset")
    if behaviour.abort_at >= 0:
        return Step(due_s, b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", then="close", ended="abort")
    if behaviour.error_at >= 0:
        return Step(due_s, wire.answer(500, wire.error(500, "the engine died")), then="end", ended="error")
    return None


def refusal(behaviour: Behaviour, request_id: str) -> Iterator[Step]:
    """Yield an answer with the behaviour's bad status."""
    body = wire.error(behaviour.status, "as this test asked")
    yield Step(behaviour.ttft_s, wire.answer(behaviour.status, body, request_id), then="end", ended="status")
