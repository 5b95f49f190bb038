"""Deadlines to the microsecond on CLOCK_MONOTONIC.

asyncio's own timers wait in whole milliseconds; a kernel timer (timerfd) wakes the same loop on time.
"""

from __future__ import annotations

import asyncio
import ctypes
import heapq
import itertools
import os
import time
from collections.abc import Callable

_CLOCK_MONOTONIC = 1
_TFD_TIMER_ABSTIME = 1
_PR_SET_TIMERSLACK = 29
_BATCH = 64  # calls before sockets are looked at again

_libc = ctypes.CDLL(None, use_errno=True)


class _Itimerspec(ctypes.Structure):
    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class Deadlines:
    """Calls functions at absolute times of time.monotonic(), in order, never early."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._armed_s = float("inf")
        self._loop = loop
        self._fd = _libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        _libc.prctl(_PR_SET_TIMERSLACK, 1)  # the default lets the kernel be 50 us late
        loop.add_reader(self._fd, self._fire)

    def at(self, due_s: float, call: Callable[[], None]) -> None:
        """Call `call` at `due_s`, or as soon as possible after."""
        heapq.heappush(self._heap, (due_s, next(self._numbers), call))
        if due_s < self._armed_s:
            self._arm(due_s)

    def close(self) -> None:
        """Forget every deadline."""
        self._heap.clear()
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _arm(self, due_s: float) -> None:
        self._armed_s = due_s
        whole_s = int(due_s)
        rest_ns = int((due_s - whole_s) * 1e9) + 1  # all zeros would disarm
        spec = _Itimerspec(0, 0, whole_s, min(rest_ns, 999_999_999))
        _libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(spec), None)

    def _fire(self) -> None:
        os.read(self._fd, 8)
        self._armed_s = float("inf")
        heap = self._heap
        for _ in range(_BATCH):
            if not heap or heap[0][0] > time.monotonic():
                break
            heapq.heappop(heap)[2]()
        if heap and heap[0][0] < self._armed_s:
            self._arm(heap[0][0])
