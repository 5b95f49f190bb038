"""What is done once when a request has ended, whatever its transport: counted, written down, logged."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable

from reference_stack.services.infrastructure.api_gateway.call import Call
from reference_stack.services.infrastructure.api_gateway.measures import Measures
from reference_stack.services.infrastructure.api_gateway.ports import Journal
from reference_stack.services.infrastructure.api_gateway.settled import Settled

log = logging.getLogger(__name__)

_QUIET = ("/health", "/metrics")


class Settlement:
    """Settles each call once. Counting and formatting are put off, to be done for many requests at a time."""

    def __init__(
        self, measures: Measures, journal: Journal, line: Callable[[Callable[[], str]], None] | None = None
    ) -> None:
        """`line` takes what makes a line of the log; without it the logging module has the line."""
        self._measures = measures
        self._journal = journal
        self._line = line or _log_info
        self._pid = os.getpid()

    def settle(self, call: Call) -> None:
        took_s = time.perf_counter() - call.began_s
        key, usage = call.key, call.usage
        settled = Settled(
            call.accepted_at_s + took_s,
            self._pid,
            call.id,
            call.client_id,
            call.route,
            "" if key is None else key.id,
            call.model,
            call.stream,
            call.status,
            call.error,
            call.outcome,
            None if usage is None else usage.prompt_tokens,
            call.texts if usage is None else usage.completion_tokens,
            call.first_byte_s,
            took_s,
        )
        self._measures.done(settled)
        if call.outcome is not None and not call.written:
            self._journal.final(call)
        if call.on_settled is not None:
            call.on_settled()
        if log.isEnabledFor(logging.DEBUG if call.route.startswith(_QUIET) else logging.INFO):
            self._line(settled.line)


def _log_info(line: Callable[[], str]) -> None:
    log.info("%s", line())
