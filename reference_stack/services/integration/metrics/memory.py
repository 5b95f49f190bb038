"""The metrics in memory: canned answers, for tests of what asks."""

from __future__ import annotations

from collections.abc import Sequence

from reference_stack.services.integration.metrics.port import Firing, QueryRefused, ScrapeTarget, Series, Unavailable


class MemoryMetrics:
    """See port.Metrics. `answers` maps an expression to its series; any other has none, as in Prometheus.

    With `outage` set every call raises Unavailable.
    """

    def __init__(self) -> None:
        self.outage = False
        self.answers: dict[str, Sequence[Series]] = {"1": [Series({}, ((0.0, 1.0),))]}
        self.scraped: list[ScrapeTarget] = []
        self.firing: list[Firing] = []

    async def query(self, expression: str) -> list[Series]:
        return [Series(series.labels, series.points[-1:]) for series in self._answer(expression)]

    async def query_range(self, expression: str, start_s: float, end_s: float, step_s: float) -> list[Series]:
        if step_s <= 0:
            raise QueryRefused("the step must be positive")
        return [
            Series(series.labels, [point for point in series.points if start_s <= point[0] <= end_s])
            for series in self._answer(expression)
        ]

    async def targets(self) -> list[ScrapeTarget]:
        self._check()
        return sorted(self.scraped, key=lambda row: (row.job, row.url))

    async def alerts(self) -> list[Firing]:
        self._check()
        return sorted(self.firing, key=lambda row: (row.name, sorted(row.labels.items())))

    async def ping(self) -> str:
        return "the metrics in memory are told to be out" if self.outage else ""

    async def close(self) -> None:
        pass

    def _answer(self, expression: str) -> Sequence[Series]:
        self._check()
        # The little of PromQL that can be told wrong without a parser.
        if not expression.strip() or any(expression.count(a) != expression.count(b) for a, b in ("()", "{}", "[]")):
            raise QueryRefused(f"not an expression: {expression[:80]}")
        return self.answers.get(expression, ())

    def _check(self) -> None:
        if self.outage:
            raise Unavailable("the metrics in memory are told to be out")
