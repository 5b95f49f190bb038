"""What is done once when a request has ended, whatever its transport: counted, written down, logged."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable

import msgspec

from reference_stack.services.infrastructure.api_gateway.call import Call
from reference_stack.services.infrastructure.api_gateway.measures import Measures
from reference_stack.services.infrastructure.api_gateway.ports import Journal

log = logging.getLogger(__name__)

_QUIET = ("/health", "/metrics")


class Settlement:
    """Settles each call once."""

    def __init__(self, measures: Measures, journal: Journal, line: Callable[[str], None] | None = None) -> None:
        """`line` takes the lines of the log; without it the logging module does."""
        self._measures = measures
        self._journal = journal
        self._line = line or _log_info
        self._pid = os.getpid()

    def settle(self, call: Call) -> None:
        took_s = time.perf_counter() - call.began_s
        self._measures.done(call, took_s)
        if call.outcome is not None and not call.written:
            self._journal.final(call)
        if call.on_settled is not None:
            call.on_settled()
        if log.isEnabledFor(logging.DEBUG if call.route.startswith(_QUIET) else logging.INFO):
            self._line(_line(call, took_s, self._pid))


def _log_info(line: str) -> None:
    log.info("%s", line)


class _Line(msgspec.Struct, tag_field="event", tag="request"):
    """What is logged of a request; it holds no prompt, key or token text."""

    ts: float
    pid: int
    id: str
    client_id: str
    route: str
    key: str
    model: str
    stream: bool
    status: int
    error: str
    outcome: str | None
    prompt_tokens: int | None
    output_tokens: int
    first_byte_s: float | None
    took_s: float


_encode = msgspec.json.Encoder().encode


def _line(call: Call, took_s: float, pid: int) -> str:
    usage, first_byte_s = call.usage, call.first_byte_s
    line = _Line(
        _to_us(call.accepted_at_s + took_s),
        pid,
        call.id,
        call.client_id,
        call.route,
        "" if call.key is None else call.key.id,
        call.model,
        call.stream,
        call.status,
        call.error,
        call.outcome,
        None if usage is None else usage.prompt_tokens,
        call.output_tokens,
        None if first_byte_s is None else _to_us(first_byte_s),
        _to_us(took_s),
    )
    return _encode(line).decode()


def _to_us(seconds: float) -> float:
    """Round to whole microseconds; `round` takes ten times as long, for it goes by way of decimal digits."""
    return int(seconds * 1e6 + 0.5) / 1e6
