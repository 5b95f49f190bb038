"""The highest load that this instrument measures right on this machine, found by trying.

Rates double until one fails, or halve until one holds; then the bracket is halved on a log scale. A rate that fails is
tried once more: a stolen core for a moment is no ceiling. The search is bounded in time and says what it did not reach.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

RESOLUTION = 1.1  # between the ends of the bracket
_BUSY = 0.7  # of a core: above it a process begins to queue, below it something else took the core away
LOWEST_RPS, HIGHEST_RPS = 1.0, 20_000.0


@dataclass(frozen=True, slots=True)
class Point:
    """One rate that was tried, in requests/s, all figures as the certificate has them."""

    rate_rps: float
    ok: bool
    why: str = ""  # the first reason when not
    events_per_s: float = 0.0
    worst_error_s: float = 0.0  # of ttft, e2e, itl, tpot: what the bound applies to
    send_lag_p99_s: float = 0.0
    cpu_share: float = 0.0  # of one core, the busiest client
    peak_rss_bytes: int = 0
    golden_lag_p99_s: float = 0.0  # how late the golden server itself was
    golden_cpu_share: float = 0.0  # likewise


Probe = Callable[[float], Point]


@dataclass(frozen=True, slots=True)
class Ceiling:
    """Where measuring ends with answers of `tokens` tokens. None: no rate held, or none failed."""

    tokens: int
    held_rps: float | None
    failed_rps: float | None
    complete: bool  # False: the time was over before the ends came within RESOLUTION of each other
    points: tuple[Point, ...] = ()

    @property
    def limited_by(self) -> str:
        """What gave way first: client | golden server | machine | nothing (no rate failed)."""
        failed = [point for point in self.points if not point.ok and point.rate_rps == self.failed_rps]
        if not failed:
            return "nothing"
        last = failed[-1]
        if max(last.cpu_share, last.golden_cpu_share) < _BUSY:
            return "machine"
        return "client" if last.cpu_share >= last.golden_cpu_share else "golden server"


def find_ceiling(
    probe: Probe,
    tokens: int,
    start_rps: float,
    *,
    most_s: float,
    clock: Callable[[], float] = time.monotonic,
    say: Callable[[str], None] = lambda _: None,
) -> Ceiling:
    """Search from `start_rps` for at most about `most_s` seconds: a try that has begun is finished."""
    begun_s = clock()
    points: list[Point] = []
    held_rps, failed_rps = None, None
    rate_rps: float | None = min(max(start_rps, LOWEST_RPS), HIGHEST_RPS)
    while rate_rps is not None and (not points or clock() - begun_s < most_s):
        say(f"ceiling with {tokens} tokens: trying {rate_rps:.0f} rps ({_bracket(held_rps, failed_rps)})")
        points.append(probe(rate_rps))
        if not points[-1].ok and clock() - begun_s < most_s:
            points.append(probe(rate_rps))
        if points[-1].ok:
            held_rps = rate_rps
        else:
            failed_rps = rate_rps
        rate_rps = next_rps(held_rps, failed_rps)
    return Ceiling(tokens, held_rps, failed_rps, rate_rps is None, tuple(points))


def next_rps(held_rps: float | None, failed_rps: float | None) -> float | None:
    """Return the rate to try next, None when the bracket is narrow enough or the range is at its end. Pure."""
    if held_rps is None and failed_rps is None:
        raise ValueError("nothing was tried yet")
    if failed_rps is None:
        assert held_rps is not None  # noqa: S101 - one of both is there
        return min(held_rps * 2, HIGHEST_RPS) if held_rps < HIGHEST_RPS else None
    if held_rps is None:
        return max(failed_rps / 2, LOWEST_RPS) if failed_rps > LOWEST_RPS else None
    return math.sqrt(held_rps * failed_rps) if failed_rps / held_rps > RESOLUTION else None


def _bracket(held_rps: float | None, failed_rps: float | None) -> str:
    held = "none held yet" if held_rps is None else f"{held_rps:.0f} held"
    return held if failed_rps is None else f"{held}, {failed_rps:.0f} did not"


def sentence(ceiling: Ceiling) -> str:
    """Say where measuring ends, and what is the limit there."""
    what = f"with {ceiling.tokens} tokens an answer"
    if ceiling.held_rps is None:
        return f"{what} no rate was measured right, down to {ceiling.failed_rps:.3g} rps: this machine is too busy"
    tokens_per_s = ceiling.held_rps * ceiling.tokens
    held = f"{what} this machine measures up to {ceiling.held_rps:.0f} rps ({tokens_per_s:.0f} tokens/s)"
    if ceiling.failed_rps is None:
        return f"{held}; more was not tried in the time allowed"
    limit = f"at {ceiling.failed_rps:.0f} rps the {ceiling.limited_by} was the limit"
    return f"{held}; {limit}" + ("" if ceiling.complete else ", and the time was over before the ends met")


def advice(ceilings: Sequence[Ceiling], needed_rps: float, tokens: int, *, clients: int, cores: int) -> str:
    """Return what lifts the ceiling to `needed_rps`; nothing where it is high enough or unknown.

    Each client wants a core, and one is left for whatever else runs here.
    """
    own = next((one for one in ceilings if one.tokens == tokens), None)
    if own is None or own.failed_rps is None or (own.held_rps or 0.0) >= needed_rps:
        return ""
    if own.held_rps is None or own.limited_by == "machine":  # more clients would wait for the same cores
        return "stop other work here, or take another host as the load generator"
    times = math.ceil(clients * needed_rps / own.held_rps)
    if times < cores:
        return f"{needed_rps:.0f} rps take {times} clients: --clients {times}"
    return f"{needed_rps:.0f} rps take {times} clients, and this machine has {cores} cores: use more hosts"
