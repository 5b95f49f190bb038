"""A timer that wakes a poll to within microseconds, where poll's own timeout counts whole milliseconds."""

from __future__ import annotations

import ctypes
import os
import time

_TIMER_ABSOLUTE = 1  # TFD_TIMER_ABSTIME
_NONBLOCKING = os.O_NONBLOCK | os.O_CLOEXEC  # TFD_NONBLOCK and TFD_CLOEXEC have the same values


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Setting(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class Alarm:
    """A Linux timerfd: `fd` becomes readable at the time that was set."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd: int = self._libc.timerfd_create(time.CLOCK_MONOTONIC, _NONBLOCKING)
        if self.fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        self._set_ns = 0

    def set(self, at_ns: int) -> None:
        """Ring at `at_ns` on the monotonic clock instead of any time set before; at once if that has passed."""
        if at_ns == self._set_ns:
            return
        self._set_ns = at_ns
        setting = _Setting(_Timespec(0, 0), _Timespec(*divmod(max(1, at_ns), 1_000_000_000)))
        self._libc.timerfd_settime(self.fd, _TIMER_ABSOLUTE, ctypes.byref(setting), None)

    def acknowledge(self) -> None:
        """Make `fd` unreadable until the next time that is set."""
        try:
            os.read(self.fd, 8)
        except BlockingIOError:
            return

    def close(self) -> None:
        os.close(self.fd)
