"""What a load generator is asked to do, and what it reports: the words of the benchmark of load generators."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

METRICS = ("ttft", "itl", "e2e")
STATISTICS = ("mean", "p50", "p99")
Figures = Mapping[str, Mapping[str, float]]  # metric -> statistic -> seconds


@dataclass(frozen=True, slots=True)
class Job:
    """Streams of `tokens` tokens at `rate_rps`, `requests` of them. `most_open` > 0: a limit on concurrency."""

    port: int
    rate_rps: float
    requests: int
    tokens: int
    folder: Path
    poisson: bool = False
    most_open: int = 0
    from_intended: bool = False  # where a tool can: latencies from the time that was planned, not from the sending

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def seconds(self) -> float:
        return self.requests / self.rate_rps


@dataclass(frozen=True, slots=True)
class Reported:
    """What the tool itself says when it is done."""

    ok: int
    failed: int
    figures: Figures = field(default_factory=dict)
    cpu_s: float | None = None  # of its hot loop alone, where it tells


def statistics(values_s: Sequence[float]) -> dict[str, float]:
    """Return mean, p50 and p99 (order statistics); nothing of nothing."""
    if not values_s:
        return {}
    ordered = sorted(values_s)
    found = {name: ordered[math.ceil(q * len(ordered)) - 1] for name, q in (("p50", 0.5), ("p99", 0.99))}
    return {"mean": sum(ordered) / len(ordered), **found}
