"""What the rest of the stack asks of the metrics: values now, values over time, and what is scraped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from reference_stack.errors import StackError


class Unavailable(StackError):
    """Prometheus did not answer in time, or not at all."""

    exit_code = 5


class QueryRefused(StackError):
    """Prometheus does not accept the expression."""

    exit_code = 2


class PushRefused(StackError):
    """Grafana does not take a dashboard."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Firing:
    """An alert whose condition holds: its labels, what it says, since when (seconds since 1970), and whether it fires
    or is still waiting for its time.
    """

    name: str
    labels: Mapping[str, str]
    summary: str
    since_s: float
    firing: bool = True


@dataclass(frozen=True, slots=True)
class Series:
    """One time series: its labels and its points (seconds since the epoch, value), oldest first."""

    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class ScrapeTarget:
    """One endpoint that is scraped: the job's name, its URL, and "" or why the last scrape failed."""

    job: str
    url: str
    up: bool
    error: str = ""


class Metrics(Protocol):
    """Questions to Prometheus. Every call raises Unavailable while it cannot be asked."""

    async def query(self, expression: str) -> list[Series]:
        """Return the value of `expression` now, one point a series. Raises QueryRefused for a wrong expression."""
        ...

    async def query_range(self, expression: str, start_s: float, end_s: float, step_s: float) -> list[Series]:
        """Return `expression` over [start_s, end_s] every `step_s` seconds. Raises QueryRefused."""
        ...

    async def targets(self) -> list[ScrapeTarget]:
        """Return what is scraped, in the order of job and URL."""
        ...

    async def alerts(self) -> list[Firing]:
        """Return the alerts whose condition holds, in the order of name and labels."""
        ...

    async def ping(self) -> str:
        """Return "" when it answers a query, else why not."""
        ...

    async def close(self) -> None: ...
