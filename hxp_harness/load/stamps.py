"""Kernel receive stamps of a socket, brought from the wall clock to the monotonic clock."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

# The number of SO_TIMESTAMPNS and of the control message it makes (asm-generic/socket.h); Python does not name it.
_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@qq")  # seconds, nanoseconds
_TIMESPEC_BYTES, _unpack = _TIMESPEC.size, _TIMESPEC.unpack  # looked up once: this runs for every read
_SOCKET = socket.SOL_SOCKET
CONTROL_BYTES = socket.CMSG_SPACE(_TIMESPEC_BYTES)
# Readings of both clocks within so short a time are as exact as they get.
_TIGHT_NS = 1_000
_BEGIN_S = 1.0

ControlMessages = Sequence[tuple[int, int, bytes]]


def ask_for_stamps(sock: socket.socket) -> None:
    """Let the kernel stamp what this socket receives, where it can; elsewhere nothing changes."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _TIMESTAMPNS, 1)
    except OSError:
        return


def stamp_ns(control: ControlMessages) -> int:
    """Return the wall-clock receive stamp in `control` in nanoseconds, or 0 where the kernel gave none."""
    for level, kind, content in control:
        if kind == _TIMESTAMPNS and level == _SOCKET and len(content) == _TIMESPEC_BYTES:
            seconds, nanoseconds = _unpack(content)
            wall_ns: int = seconds * 1_000_000_000 + nanoseconds
            return wall_ns
    return 0


def stamps_ns(controls: Sequence[ControlMessages]) -> list[int]:
    """Return `stamp_ns` of each."""
    try:
        contents = b"".join([content for ((_, kind, content),) in controls if kind == _TIMESTAMPNS])
    except ValueError:  # not one message each
        contents = b""
    if len(contents) != len(controls) * _TIMESPEC_BYTES:
        return [stamp_ns(control) for control in controls]
    numbers = struct.unpack(f"@{2 * len(controls)}q", contents)
    return [seconds * 1_000_000_000 + rest for seconds, rest in zip(numbers[::2], numbers[1::2], strict=True)]


@contextmanager
def stamping() -> Iterator[bool]:
    """Keep the kernel stamping while the context lasts; say whether it does, having waited up to 1 s for it.

    It stamps packets only while some socket asks for it, and begins a moment after the first one did.
    """
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as asker,
        listener.accept()[0] as sender,
    ):
        ask_for_stamps(asker)
        stamped = False
        until_s = time.monotonic() + _BEGIN_S
        while not stamped and time.monotonic() < until_s:
            sender.send(b".")
            stamped = stamp_ns(asker.recvmsg(1, CONTROL_BYTES)[1]) != 0
            time.sleep(0 if stamped else 0.001)  # the kernel takes a moment to begin
        yield stamped


class WallOffset:
    """What the wall clock is ahead of the monotonic clock, and how far it was stepped.

    The two are read together often; slewing moves both alike, so the offset changes only when someone sets the clock.
    """

    def __init__(self) -> None:
        self.ns = time.time_ns() - time.monotonic_ns()
        self.largest_step_ns = 0
        self.sample()
        self.largest_step_ns = 0

    def sample(self) -> int:
        """Read both clocks; return the monotonic one in nanoseconds."""
        before_ns = time.monotonic_ns()
        wall_ns = time.time_ns()
        after_ns = time.monotonic_ns()
        offset_ns = wall_ns - (before_ns + after_ns) // 2
        if after_ns - before_ns <= _TIGHT_NS and abs(offset_ns - self.ns) <= self.largest_step_ns:
            self.ns = offset_ns  # what `learn` would do, without a call: this runs before every read
        else:
            self.learn(before_ns, wall_ns, after_ns)
        return after_ns

    def learn(self, before_ns: int, wall_ns: int, after_ns: int) -> None:
        """Take a reading of the wall clock that lies between two of the monotonic clock.

        The offset was between the two differences. An interrupted reading bounds it loosely and moves what is known no
        further than those bounds demand; a tight one replaces it.
        """
        lowest_ns, highest_ns = wall_ns - after_ns, wall_ns - before_ns
        if after_ns - before_ns <= _TIGHT_NS:
            offset_ns = (lowest_ns + highest_ns) // 2
        else:
            offset_ns = min(max(self.ns, lowest_ns), highest_ns)
        self.largest_step_ns = max(self.largest_step_ns, abs(offset_ns - self.ns))
        self.ns = offset_ns
