"""A connection's two deadlines: for what its client is to send, and for what it is to take."""

from __future__ import annotations

import time
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

NEVER = float("inf")


class Timed(HttpToolsProtocol):
    """`due_s` is the earlier of the two, on the monotonic clock, for who watches it."""

    def __init__(self, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self.due_s = self._read_due_s = self._write_due_s = NEVER

    def _read_within(self, seconds: float) -> None:
        self._read_due_s = due_s = time.monotonic() + seconds
        self.due_s = min(self._write_due_s, due_s)

    def _write_within(self, seconds: float) -> None:
        self._write_due_s = due_s = time.monotonic() + seconds
        self.due_s = min(self._read_due_s, due_s)

    def _read_whenever(self) -> None:
        self._read_due_s = NEVER
        self.due_s = self._write_due_s

    def _write_whenever(self) -> None:
        self._write_due_s = NEVER
        self.due_s = self._read_due_s
