"""Ctrl-C and SIGTERM as one KeyboardInterrupt that cannot get lost.

A signal handler's exception appears wherever the program happens to be, and code that tries an import and clears the
failure swallows it. So it is remembered, and `check` raises it again at the next stage.
"""

from __future__ import annotations

import signal
from types import FrameType

_asked = False


def install() -> None:
    """Make SIGINT and SIGTERM raise KeyboardInterrupt in the main thread from here on."""
    settle()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _ask)


def check() -> None:
    """Raise KeyboardInterrupt if a stop was asked for and not settled."""
    if _asked:
        raise KeyboardInterrupt


def settle() -> None:
    """Forget the stop: it is being dealt with."""
    global _asked  # noqa: PLW0603 - a process has one set of signals
    _asked = False


def _ask(_signal: int, _frame: FrameType | None) -> None:
    global _asked  # noqa: PLW0603 - a process has one set of signals
    _asked = True
    raise KeyboardInterrupt
