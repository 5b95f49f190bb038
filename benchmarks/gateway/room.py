"""Where a part runs: its cores, its cache of peers, the subjects that it has started, and what it had to leave out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from benchmarks.gateway import ours, subjects
from benchmarks.gateway.backing import Backing
from benchmarks.gateway.measure import Bench
from benchmarks.gateway.programs import CannotRun
from benchmarks.gateway.subjects import Command, Running
from benchmarks.gateway.turns import Say

# Keys of one variant are numbered from a multiple of this.
_KEYS_APART = 1_000_000


@dataclass(slots=True)
class Room:
    bench: Bench
    backing: Backing
    cores: frozenset[int]
    cache: Path
    say: Say
    left_out: list[str] = field(default_factory=list)
    _held: ExitStack = field(default_factory=ExitStack)
    _numbers: Iterator[int] = field(default_factory=lambda: count(0, _KEYS_APART))

    @contextmanager
    def settled(self) -> Iterator[None]:
        """Hold what is started meanwhile, and end it then; `left_out` begins empty."""
        self.left_out.clear()
        with ExitStack() as self._held:
            yield

    def start(self, name: str, make: Callable[[Path], Command]) -> Running | None:
        """Start a subject; None, and a line in `left_out`, when that cannot be."""
        self.say(f"starting {name}")
        folder = Path(self._held.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        try:
            return self._held.enter_context(subjects.running(make(folder), folder, self.cores))
        except CannotRun as error:
            self.left_out.append(f"{name}: {error}")
            self.say(f"left out: {self.left_out[-1]}")
            return None

    def start_ours(self, variant: ours.Variant) -> Running | None:
        if missing := variant.missing():
            self.left_out.append(f"{variant.name}: this gateway has no setting {missing!r}")
            return None
        return self.start(variant.name, lambda folder: self.our_command(variant, folder))

    def our_command(self, variant: ours.Variant, folder: Path) -> Command:
        """Return our gateway as `variant` says, its keys put where it looks for them."""
        first = next(self._numbers)
        self.backing.put_keys(ours.stored_keys(variant, first))
        return ours.gateway(variant, first, folder, self.bench.backend.port, self.backing)
