"""Log lines that never make their writer wait: what the reader of the log does not take is held, then dropped."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import stat
import time
from collections import deque
from collections.abc import Callable

# A line as text, or what makes it when it is written: of a request that waits for neither.
Line = str | Callable[[], str]

_MOST_BYTES = 4096  # what a pipe takes at once or not at all (PIPE_BUF), so that lines of two workers never mix


class Lines:
    """Writes lines to `descriptor`; at most `most_held` wait while it takes nothing, and further ones are dropped.

    With `patient` lines are only held until somebody calls `flush`: many requests then cost one write.
    """

    def __init__(self, descriptor: int = 2, most_held: int = 10_000) -> None:
        self.patient = False
        self.dropped = 0
        self.on_drop: Callable[[], None] = lambda: None
        self._most_held = most_held
        self._held: deque[Line | bytes] = deque()
        self._write, self._close = _writer(descriptor)
        self._untold = 0

    def put(self, line: Line) -> None:
        """Take one line, without its end; what is longer than 4 KiB is cut. Never waits."""
        if len(self._held) >= self._most_held:
            self.dropped += 1
            self._untold += 1
            self.on_drop()
            return
        self._held.append(line)
        if not self.patient:
            self.flush()

    def flush(self) -> bool:
        """Write what is held as far as it is taken; return whether all of it was."""
        while self._held:
            batch = self._batch()
            try:
                written = self._write(batch)
            except BlockingIOError:
                written = 0
            except OSError:  # nobody will ever read it: the reader is gone
                self._held.clear()
                return True
            if written < len(batch):
                self._held.appendleft(batch[written:])
                return False
        if self._untold:
            self._untold, told = 0, self._untold
            self.put(json.dumps({"event": "log_lines_dropped", "count": told, "pid": os.getpid()}))
        return True

    def _batch(self) -> bytes:
        """Take out as many lines as go into one write."""
        parts: list[bytes] = []
        size = 0
        while self._held:
            line = _bytes_of(self._held.popleft())
            size += len(line)
            if size > _MOST_BYTES and parts:
                self._held.appendleft(line)
                break
            parts.append(line)
        return b"".join(parts)

    def end(self, within_s: float) -> None:
        """Write what is held, for at most so long, and write no more."""
        deadline = time.monotonic() + within_s
        while not self.flush() and time.monotonic() < deadline:
            time.sleep(0.01)  # a reader that is slow gives no sign when it has read
        self._write = _into_nothing
        self._close()


def _bytes_of(line: Line | bytes) -> bytes:
    if isinstance(line, bytes):  # cut and ended before
        return line
    text = line if isinstance(line, str) else line()
    return text.encode("utf-8", "replace")[: _MOST_BYTES - 1] + b"\n"


def _into_nothing(data: bytes) -> int:
    return len(data)


def _writer(descriptor: int) -> tuple[Callable[[bytes], int], Callable[[], None]]:
    """Return what writes there without waiting, and what closes what was opened for it.

    The mode is of the open file, which other processes share: a pipe or a terminal is opened once more for ourselves. A
    socket is told each time, and a file never makes anybody wait.
    """
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISSOCK(mode):
        sock = socket.socket(fileno=os.dup(descriptor))
        return lambda data: sock.send(data, socket.MSG_DONTWAIT), sock.close
    if not stat.S_ISREG(mode):
        # The pipe of another user cannot be opened: then it waits, as everybody's log does.
        with contextlib.suppress(OSError):
            own = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
            return lambda data: os.write(own, data), lambda: os.close(own)
    return lambda data: os.write(descriptor, data), lambda: None


class JsonHandler(logging.Handler):
    """What the logging module has to say, as one JSON object a line."""

    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        try:
            row = {
                "ts": round(record.created, 6),
                "level": record.levelname,
                "logger": record.name,
                "pid": record.process,
                "message": record.getMessage(),
            }
            if record.exc_info:
                row["traceback"] = logging.Formatter().formatException(record.exc_info)
            self._lines.put(json.dumps(row))
        except Exception:  # noqa: BLE001 - as the module has it: a mistake in a log call must not end what it logs
            self.handleError(record)


def log_to(lines: Lines) -> None:
    """Let the logging module of this process write to `lines`."""
    root = logging.getLogger()
    for handler in root.handlers[:]:
        root.removeHandler(handler)
    root.addHandler(JsonHandler(lines))
    root.setLevel(logging.INFO)
