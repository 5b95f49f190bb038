"""Errors that a person sees: what is wrong, where, and the next thing to type.

HxpError
├── UsageError     exit 2   a profile, gate, option or file is wrong
├── InvalidRun     exit 4   the measurement itself cannot be trusted
│   └── Uncertified           this machine cannot measure the load, so none was sent
└── NotReady       exit 5   a stack or target does not serve
"""

from __future__ import annotations

import difflib
import enum
from collections.abc import Iterable


class ExitCode(enum.IntEnum):
    """What the process returns; the numbers are an interface."""

    PASS = 0
    FAIL = 1
    USAGE = 2
    INCONCLUSIVE = 3
    INVALID = 4
    NOT_READY = 5


class HxpError(Exception):
    """Base of every error with a message for people.

    `hint` is the next command to type or the nearest right spelling, or empty.
    """

    exit_code = ExitCode.FAIL

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class UsageError(HxpError):
    """Something that the user wrote is wrong; nothing was started."""

    exit_code = ExitCode.USAGE


class InvalidRun(HxpError):
    """The measurement cannot be trusted, so there is nothing to judge."""

    exit_code = ExitCode.INVALID


class Uncertified(InvalidRun):
    """The certificate is beyond its bounds: this machine cannot measure the load, so none was sent."""


class NotReady(HxpError):
    """A stack or a target does not serve."""

    exit_code = ExitCode.NOT_READY


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a hint that names the closest of `known` spellings, or lists them all."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(names)}"
