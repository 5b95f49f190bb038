"""What another host's clock is ahead of ours, measured by asking it for the time.

An exchange proves bounds, whatever the delays were and however they differed on the way there and back: the other
clock was read after we asked and before we had the answer (Cristian, Probabilistic clock synchronization, 1989). The
exchange with the shortest round trip bounds best, as in NTP's clock filter (RFC 5905, 10).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class Exchange(NamedTuple):
    """One question for the time, in nanoseconds: asked and answered on our clock, `theirs_ns` on theirs."""

    asked_ns: int
    theirs_ns: int
    answered_ns: int

    @property
    def round_trip_ns(self) -> int:
        return self.answered_ns - self.asked_ns


@dataclass(frozen=True, slots=True)
class Offset:
    """Theirs minus ours lies between `lo_ns` and `hi_ns`."""

    lo_ns: int
    hi_ns: int

    @property
    def ns(self) -> int:
        """The middle."""
        return (self.lo_ns + self.hi_ns) // 2

    @property
    def uncertainty_ns(self) -> int:
        """How far the truth may be from the middle."""
        return max(self.hi_ns - self.ns, self.ns - self.lo_ns)

    def strayed_ns(self, used_ns: int) -> int:
        """Return how far the truth may be from the offset `used_ns` that was reckoned with."""
        return max(abs(self.hi_ns - used_ns), abs(self.lo_ns - used_ns))


SAME = Offset(0, 0)  # one kernel, one clock


def best(exchanges: Sequence[Exchange]) -> Offset:
    """Return what the exchange with the shortest round trip (of at least one) proves."""
    shortest = min(exchanges, key=lambda one: one.round_trip_ns)
    return Offset(shortest.theirs_ns - shortest.answered_ns, shortest.theirs_ns - shortest.asked_ns)


def over_run(before: Offset, after: Offset) -> int:
    """Return how far the truth was at most from `before.ns` in the time between both, in nanoseconds.

    Clocks drift, by less when NTP holds them; between the two measurements the offset is taken to have moved from one
    to the other without overshooting either.
    """
    return max(before.uncertainty_ns, after.strayed_ns(before.ns))


def clock_name(proc: Path = Path("/proc")) -> str:
    """Return what names the monotonic clock that this process reads: its kernel's boot and its time namespace."""
    boot = (proc / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    try:
        return f"{boot} {(proc / 'self/ns/time').readlink()}"
    except OSError:  # a kernel without time namespaces
        return boot
