"""Waits until a moment on the monotonic clock, to about 0.1 ms: event loops round their timers to 1 ms."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time

_CLOCK_MONOTONIC = 1
_NONBLOCK_CLOEXEC = os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)
_ABSOLUTE = 1


class _Spec(ctypes.Structure):
    """struct itimerspec: interval, then the moment; each seconds and nanoseconds."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("at_s", ctypes.c_long),
        ("at_ns", ctypes.c_long),
    )


class Timer:
    """One waiter at a time. On Linux a timerfd; elsewhere the loop's own timer."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._fd = -1
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC)
            if self._fd >= 0:
                self._loop.add_reader(self._fd, self._fired)

    async def until(self, at_s: float) -> None:
        """Return at `at_s` on time.monotonic(), or after one turn of the loop if that has passed."""
        left_s = at_s - time.monotonic()
        if left_s <= 0:
            await asyncio.sleep(0)
        elif self._fd < 0:
            await asyncio.sleep(left_s)
        else:
            self._waiter = self._loop.create_future()
            nanoseconds = max(int(at_s * 1e9), 1)
            spec = _Spec(0, 0, nanoseconds // 10**9, nanoseconds % 10**9)
            self._libc.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(spec), None)
            await self._waiter

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _fired(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
