"""Errors of the stack that a person sees: what is wrong, where, and the next thing to type.

StackError
├── SettingsError   exit 2   a setting, option or file is wrong; nothing was started
└── NotReady        exit 5   a service did not come up
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class StackError(Exception):
    """Base of the stack's errors; `hint` is the next command to type or the nearest right spelling, or empty."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class SettingsError(StackError):
    """Something that the user wrote is wrong; nothing was started."""

    exit_code = 2


class NotReady(StackError):
    """A service did not come up, or went away."""

    exit_code = 5


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a hint that names the closest of `known` spellings, or lists them all."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(names)}"
