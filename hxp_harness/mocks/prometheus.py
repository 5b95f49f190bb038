"""The wire of Prometheus' HTTP API, for clients made of httpx."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import httpx
import respx


@dataclass(frozen=True, slots=True)
class Series:
    """One series of an answer: labels (with __name__ where there is one) and its value."""

    labels: Mapping[str, str]
    value: float


@dataclass(slots=True)
class Prometheus:
    """A mocked server. `results` maps an expression, spelled exactly, to its series; others have no data.

    `queries` are the expressions that were asked; `ready` False makes it starting up.
    """

    results: dict[str, Sequence[Series]] = field(default_factory=dict)
    targets: list[Mapping[str, str]] = field(default_factory=list)  # scrapeUrl, health (up, down, unknown), job
    ready: bool = True
    queries: list[str] = field(default_factory=list)

    def query(self, request: httpx.Request) -> httpx.Response:
        """Answer /api/v1/query with an instant vector."""
        asked = _parameters(request)
        expression = asked.get("query", "")
        if not expression:
            return _bad('invalid parameter "query": unknown position: parse error: no expression found in input')
        self.queries.append(expression)
        at_s = float(asked.get("time", 0.0))
        rows = [
            {"metric": dict(series.labels), "value": [at_s, _number(series.value)]}
            for series in self.results.get(expression, ())
        ]
        return _success({"resultType": "vector", "result": rows})

    def query_range(self, request: httpx.Request) -> httpx.Response:
        """Answer /api/v1/query_range with a matrix in which every series is constant."""
        asked = _parameters(request)
        try:
            start_s, end_s, step_s = (float(asked[name]) for name in ("start", "end", "step"))
        except (KeyError, ValueError):
            return _bad("invalid parameter: start, end and step are numbers of seconds")
        if step_s <= 0:
            return _bad('invalid parameter "step": zero or negative query resolution step widths are not accepted.')
        if end_s < start_s:
            return _bad('invalid parameter "end": end timestamp must not be before start time')
        expression = asked.get("query", "")
        self.queries.append(expression)
        times = [start_s + step_s * number for number in range(int((end_s - start_s) / step_s) + 1)]
        rows = [
            {"metric": dict(series.labels), "values": [[at_s, _number(series.value)] for at_s in times]}
            for series in self.results.get(expression, ())
        ]
        return _success({"resultType": "matrix", "result": rows})

    def active_targets(self, _: httpx.Request) -> httpx.Response:
        """Answer /api/v1/targets."""
        active = [
            {
                "discoveredLabels": {},
                "labels": {"job": target.get("job", "hxp")},
                "scrapePool": target.get("job", "hxp"),
                "scrapeUrl": target.get("scrapeUrl", ""),
                "globalUrl": target.get("scrapeUrl", ""),
                "lastError": target.get("lastError", ""),
                "lastScrape": "2026-01-01T00:00:00Z",
                "lastScrapeDuration": 0.001,
                "health": target.get("health", "up"),
                "scrapeInterval": "15s",
                "scrapeTimeout": "10s",
            }
            for target in self.targets
        ]
        return _success({"activeTargets": active, "droppedTargets": [], "droppedTargetCounts": {}})

    def readiness(self, _: httpx.Request) -> httpx.Response:
        """Answer /-/ready."""
        if self.ready:
            return httpx.Response(200, text="Prometheus Server is Ready.\n")
        return httpx.Response(503, text="Service Unavailable")


def install(router: respx.MockRouter, base_url: str) -> Prometheus:
    """Route Prometheus' paths under `base_url` to a mocked server and return it, to be filled and looked at."""
    prometheus = Prometheus()
    paths: dict[str, Callable[[httpx.Request], httpx.Response]] = {
        "/api/v1/query": prometheus.query,
        "/api/v1/query_range": prometheus.query_range,
        "/api/v1/targets": prometheus.active_targets,
        "/-/ready": prometheus.readiness,
        "/-/healthy": lambda _: httpx.Response(200, text="Prometheus Server is Healthy.\n"),
    }
    root = base_url.rstrip("/")
    for path, answer in paths.items():
        router.route(url__regex=rf"^{root}{path}(\?|$)").mock(side_effect=answer)
    return prometheus


def _parameters(request: httpx.Request) -> Mapping[str, str]:
    """Return the parameters of a GET, or of a POST's form."""
    given = request.url.params if request.method == "GET" else httpx.QueryParams(request.content.decode())
    return dict(given)


def _number(value: float) -> str:
    return str(value) if value % 1 else str(int(value))


def _success(found: Mapping[str, object]) -> httpx.Response:
    return httpx.Response(200, json={"status": "success", "data": found})


def _bad(message: str) -> httpx.Response:
    return httpx.Response(400, json={"status": "error", "errorType": "bad_data", "error": message})
