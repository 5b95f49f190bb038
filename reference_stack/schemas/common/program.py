"""A program that the supervisor can run: its command line, surroundings and the polite signal that ends it."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Program:
    """`argv` is absolute; `environment` is added to the parent's; `user_id` (root only) is the user that it runs as."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_signal: int = signal.SIGTERM
    user_id: int | None = None
