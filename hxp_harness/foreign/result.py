"""What a result file of another tool holds, in our words, and what it lacks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from hxp_harness.errors import UsageError
from hxp_harness.trace import ErrorKind, Trace

DETAIL_CHARACTERS = 200
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Foreign:
    """One run of another tool. Times of its traces count from its first sending, in seconds."""

    tool: str
    traces: tuple[Trace, ...]
    lacks: tuple[str, ...]  # sentences, beside those that hold for every tool
    cannot: tuple[str, ...] = ()  # our metrics that its file does not hold


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as a tool's file tells of it; seconds on the tool's clock."""

    sent_s: float
    end_s: float
    tokens_s: tuple[float, ...]
    prompt_tokens: int | None
    output_tokens: int | None
    intended_s: float | None = None
    error: str = ""
    warm_up: bool = False


def read_bytes(file: Path) -> bytes:
    """Return the content of `file`; raise UsageError that names it."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None


def decode(file: Path, content: bytes, kind: type[T], made_by: str, line: int = 0) -> T:
    """Return `content` as `kind`; raise UsageError that names file, line and the command that makes such a file."""
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.DecodeError as error:
        where = f"{file}, line {line}" if line else str(file)
        raise UsageError(
            f"{where} is not what the tool writes: {error}", hint=f"such a file is made by: {made_by}"
        ) from None


def to_traces(seen: list[Seen]) -> tuple[Trace, ...]:
    """Return traces in the order of sending. What failed has the tool's own words as its detail."""
    ordered = sorted(seen, key=lambda one: one.sent_s)
    return tuple(_trace(index, one, ordered[0].sent_s) for index, one in enumerate(ordered))


def _trace(index: int, one: Seen, start_s: float) -> Trace:
    times_s = tuple(time_s - start_s for time_s in one.tokens_s)
    return Trace(
        index=index,
        replicate=-1 if one.warm_up else 0,
        intended_s=(one.sent_s if one.intended_s is None else one.intended_s) - start_s,
        asked_prompt_tokens=one.prompt_tokens or 0,
        asked_output_tokens=one.output_tokens or 0,
        sent_s=one.sent_s - start_s,
        end_s=one.end_s - start_s,
        token_lo_s=times_s,
        token_hi_s=times_s,
        chunks=len(times_s),
        prompt_tokens=one.prompt_tokens,
        output_tokens=one.output_tokens,
        error=ErrorKind.STREAM_ERROR if one.error else ErrorKind.NONE,
        detail=one.error[:DETAIL_CHARACTERS],
    )
