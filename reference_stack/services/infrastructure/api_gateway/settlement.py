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


def _line(call: Call, took_s: float, pid: int) -> str:
    """Return the one line that is logged of a request; it holds no prompt, key or token text."""
    usage = call.usage
    first_byte_s = None if call.first_byte_s is None else round(call.first_byte_s, 6)
    return msgspec.json.encode(
        {
            "event": "request",
            "ts": round(call.accepted_at_s + took_s, 6),
            "pid": pid,
            "id": call.id,
            "client_id": call.client_id,
            "route": call.route,
            "key": "" if call.key is None else call.key.id,
            "model": call.model,
            "stream": call.stream,
            "status": call.status,
            "error": call.error,
            "outcome": call.outcome,
            "prompt_tokens": None if usage is None else usage.prompt_tokens,
            "output_tokens": call.output_tokens,
            "first_byte_s": first_byte_s,
            "took_s": round(took_s, 6),
        }
    ).decode()
