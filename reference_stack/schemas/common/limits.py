"""What a process may use of its machine, and how it is held to that."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Limits:
    """The cores and bytes that a service may use; None: as many as there are.

    `by_rlimit`: where there is no cgroup for it, RLIMIT_DATA may stand in.
    """

    cpu_cores: int | None = None
    memory_bytes: int | None = None
    by_rlimit: bool = True


@dataclass(frozen=True, slots=True)
class Hold:
    """How one process is held: the cores that it runs on (none: any), its memory cgroup, or bytes of RLIMIT_DATA.

    `shown` says in words what is enforced, and what of the limits is not.
    """

    cores: tuple[int, ...] = ()
    cgroup: Path | None = None
    data_bytes: int = 0
    shown: str = ""


UNLIMITED = Limits()
FREE = Hold()
