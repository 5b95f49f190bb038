"""How the golden server answers: its timing and its traps, per server or per request."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from hxp_harness.errors import UsageError, nearest

Seconds = Annotated[float, msgspec.Meta(ge=0, le=3600)]
ANY_MODEL = "*"  # a golden server of this model answers to every name
Role = Literal["first", "early", "none"]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Timing in seconds; places (`*_at`) are token numbers from 0, -1 is never.

    Token k is sent at start + ttft_s + k * itl_s (+ a seeded draw from [0, jitter_s)), where start is the arrival of
    the request or, with slots, the moment that its slot became free.
    """

    ttft_s: Seconds = 0.05
    itl_s: Seconds = 0.005
    jitter_s: Seconds = 0.0
    tokens_per_event: Annotated[int, msgspec.Meta(ge=1)] = 1
    role: Role = "first"  # the role-only chunk: with the first token as vLLM does, at once on arrival, or never
    reasoning_tokens: int = 0  # the first so many come in the field `reasoning`
    split_at: int = -1  # the event of this token comes in two segments ...
    split_s: Seconds = 0.0  # ... so far apart; its own time is that of the second
    split_every: bool = False  # every event comes in two segments, split_s apart
    stall_at: int = -1  # before this token ...
    stall_s: Seconds = 0.0  # ... nothing for so long, and everything after is later by as much
    error_at: int = -1  # instead of this token an error event under status 200, then the end of the stream
    abort_at: int = -1  # instead of this token the connection is closed in the middle of the body
    reset_at: int = -1  # instead of this token the connection is reset
    usage: bool = True
    done: bool = True  # the stream ends with [DONE]
    status: Annotated[int, msgspec.Meta(ge=200, le=599)] = 200  # another status: an error answer at ttft_s
    finish_reason: str = "length"
    garble_from: int = -1  # with so many requests open, or more, other words are said: fast, and wrong
    output_tokens: Annotated[int, msgspec.Meta(ge=0)] = 0  # 0: as many as the request asks for


_NAMES = {field.name for field in dataclasses.fields(Behaviour)}


def changed(base: Behaviour, wanted: Mapping[str, object]) -> Behaviour:
    """Return `base` with the fields of `wanted`.

    Raises UsageError for an unknown field, and for a value of the wrong type or range.
    """
    for name in wanted:
        if name not in _NAMES:
            raise UsageError(f"the golden server knows no behaviour {name!r}", hint=nearest(name, _NAMES))
    try:
        return msgspec.convert(dataclasses.asdict(base) | dict(wanted), Behaviour)
    except msgspec.ValidationError as error:
        raise UsageError(f"not a behaviour of the golden server: {error}") from None
