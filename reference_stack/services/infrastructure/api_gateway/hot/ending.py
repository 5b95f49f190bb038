"""How a connection of a client ends: what it can still be told, and what becomes of the request being worked on."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from reference_stack.services.infrastructure.api_gateway.call import new_call
from reference_stack.services.infrastructure.api_gateway.client import LAST_WORD_S
from reference_stack.services.infrastructure.api_gateway.hot.cycle import HotCycle
from reference_stack.services.infrastructure.api_gateway.hot.door import Door, refusal_bytes
from reference_stack.services.infrastructure.api_gateway.hot.timed import NEVER, Timed
from reference_stack.services.infrastructure.api_gateway.refusal import Refusal


class Ending(Timed):
    """A connection that can be closed at any time, the last request on it refused or given up."""

    def __init__(self, door: Door, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._door = door
        self._limits = door.limits
        self._running: RequestResponseCycle | None = None
        self._deaf = False  # nothing more is read
        self._closed = False  # nothing more is written
        self._refusal: Refusal | None = None  # for when the requests before it are answered

    def _abandon(self) -> None:
        """Nothing more can be answered to the request that is being worked on."""
        running, self._running = self._running, None
        if isinstance(running, HotCycle):
            running.gone()
        elif running is not None:  # uvicorn tells the last request alone, which may wait behind this one
            running.disconnected = True
            running.message_event.set()

    def _close(self) -> None:
        """Send what is written, then wait a moment for the client to close: a reset could overtake an answer."""
        self._closed = self._deaf = True
        self._read_due_s = NEVER
        self._write_within(self._limits.write_s if self.transport.get_write_buffer_size() else LAST_WORD_S)
        self.flow.resume_reading()
        self.transport.write_eof()

    def _refuse_last(self, refusal: Refusal) -> None:
        """Refuse what came last; whole requests before it are answered first."""
        if self._running is None:
            self._refuse(refusal)
        elif not self.cycle.more_body:
            self._refusal = refusal
        elif self.cycle is self._running:
            self._refuse(refusal)
        else:
            self.pipeline.popleft()
            self._refusal = refusal

    def _refuse(self, refusal: Refusal) -> None:
        """Answer what is no request for the application, and close; where it was answered already, only close."""
        if self._closed or self.transport.is_closing():
            return
        last = self.cycle
        if last is None or not (last.response_started and last.more_body):
            call = new_call("other", None)
            call.status, call.error = refusal.status, refusal.code
            self.transport.write(refusal_bytes(refusal, call.shown_id, self.server_state.default_headers))
            self._door.settlement.settle(call)
        self._abandon()
        self._close()
