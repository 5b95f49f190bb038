"""One request as it was observed: raw readings only, nothing derived."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class ErrorKind(enum.StrEnum):
    """How a request failed; the empty kind is a success."""

    NONE = ""
    REFUSED = "refused"  # no connection
    RESET = "reset"  # connection lost: by a TCP reset at any time, or closed before anything was answered
    CUT = "cut"  # the server closed the connection in the middle of its response
    TIMEOUT = "timeout"  # not complete by the profile's timeout
    HTTP = "http"  # status other than 200
    STREAM_ERROR = "stream_error"  # an error event inside a 200 stream
    BAD_SSE = "bad_sse"  # bytes that are no HTTP, SSE or JSON
    TRUNCATED = "truncated"  # ended without finish_reason or [DONE]
    NO_USAGE = "no_usage"  # complete, but the server did not say how many tokens
    NOT_SENT = "not_sent"  # due, but never sent
    UNFINISHED = "unfinished"  # open when the run was stopped


@dataclass(frozen=True, slots=True)
class Trace:
    """Readings of one request.

    All times are seconds on the monotonic clock since the run's t0. A time that is known only to lie between two
    readings has both (`_lo_s`, `_hi_s`); `token_lo_s[i] <= token_hi_s[i]` bound the arrival of the i-th chunk with
    content, and a chunk that carries several tokens appears as often as it has tokens where the server tells
    (continuous usage), else once. Without streaming the lists hold the end of the body once.
    """

    index: int  # place in the schedule, from 0
    replicate: int  # from 0; -1 is warm-up, never judged
    intended_s: float  # when the schedule says send
    asked_prompt_tokens: int
    asked_output_tokens: int
    tag: str = ""
    sent_s: float | None = None  # just before the kernel was asked to connect or send; None: never sent
    end_s: float | None = None  # response complete, or the failure seen
    token_lo_s: tuple[float, ...] = ()
    token_hi_s: tuple[float, ...] = ()
    chunks: int = 0  # chunks with content
    prompt_tokens: int | None = None  # the server's usage
    output_tokens: int | None = None  # the server's usage
    cached_tokens: int | None = None  # the server's usage, where it says
    status: int | None = None  # HTTP status
    finish_reason: str = ""
    error: ErrorKind = ErrorKind.NONE
    detail: str = ""  # at most 200 characters of what the failure said
    read_lag_s: float = 0.0  # largest (user-space read - kernel receive) over its reads
    new_connection: bool = False
    request_id: str = field(default="")  # sent as X-Request-Id

    @property
    def ok(self) -> bool:
        """Complete and honest: counts as a success."""
        return self.error is ErrorKind.NONE
