"""The metrics service over HTTP: health, its own metrics, and questions to Prometheus."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, Gauge

from reference_stack.errors import StackError, nearest
from reference_stack.face import add_face
from reference_stack.schemas.configuration.metrics import MetricsSettings
from reference_stack.services.integration.metrics.client import PrometheusMetrics
from reference_stack.services.integration.metrics.grafana import push
from reference_stack.services.integration.metrics.memory import MemoryMetrics
from reference_stack.services.integration.metrics.port import Metrics, PushRefused, QueryRefused, Series, Unavailable
from reference_stack.services.integration.metrics.queries import BOARDS, QUERIES
from reference_stack.services.integration.swap import Swap

log = logging.getLogger(__name__)
_Window = Annotated[str, Query(pattern=r"^[1-9][0-9]{0,3}[smh]$")]
_Expression = Annotated[str, Query(min_length=1, max_length=4000)]


def connect(settings: MetricsSettings) -> Metrics:
    """Return the metrics that `settings` name."""
    return MemoryMetrics() if settings.backend == "mock" else PrometheusMetrics(settings)


def create_app(settings: MetricsSettings, *, metrics: Metrics | None = None) -> FastAPI:
    """Return the service's application. Without a Prometheus it serves, and says what it cannot answer."""
    store = Swap(connect(settings) if metrics is None else metrics)
    registry = CollectorRegistry()
    up = Gauge("hxp_prometheus_up", "1 when Prometheus answered the last check", registry=registry)

    async def put_at_start() -> None:
        try:
            log.info("dashboards are in Grafana: %s", ", ".join(await _put_dashboards(settings)))
        except StackError as error:
            log.warning("the dashboards are not in Grafana: %s", error.message)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        putting = asyncio.ensure_future(put_at_start()) if settings.grafana_host else None
        yield
        if putting is not None:
            putting.cancel()
            with suppress(asyncio.CancelledError):
                await putting
        await store.close()

    app = FastAPI(title="Metrics", lifespan=lifespan, docs_url=None, redoc_url=None)

    async def check() -> Mapping[str, str]:
        if settings.absent:
            return {}
        reason = await store.now.ping()
        up.set(not reason)
        return {"prometheus": reason}

    _add_errors(app, settings.absent)

    @app.get("/v1/query", tags=["metrics"])
    async def query(expression: _Expression) -> list[dict[str, object]]:
        return [_row(series) for series in await store.now.query(expression)]

    @app.get("/v1/query_range", tags=["metrics"])
    async def query_range(
        expression: _Expression, start_s: float, end_s: float, step_s: Annotated[float, Query(gt=0)] = 15.0
    ) -> list[dict[str, object]]:
        return [_row(series) for series in await store.now.query_range(expression, start_s, end_s, step_s)]

    @app.get("/v1/queries", tags=["metrics"])
    async def queries() -> list[dict[str, str]]:
        """The questions that the dashboards and reports ask, by name."""
        return [{"name": row.name, "title": row.title, "unit": row.unit} for row in QUERIES.values()]

    @app.get("/v1/queries/{name}", tags=["metrics"])
    async def named(name: str, window: _Window = "1m") -> list[dict[str, object]]:
        if name not in QUERIES:
            raise HTTPException(404, f"no such query; {nearest(name[:64], QUERIES)}")
        return [_row(series) for series in await store.now.query(QUERIES[name].over(window))]

    @app.get("/v1/alerts", tags=["metrics"])
    async def firing() -> list[dict[str, object]]:
        return [asdict(row) for row in await store.now.alerts()]

    @app.get("/v1/dashboards/{name}", tags=["metrics"])
    def dashboard(name: str) -> dict[str, object]:
        """A dashboard as Grafana imports it."""
        if name not in BOARDS:
            raise HTTPException(404, f"no such dashboard; {nearest(name[:64], BOARDS)}")
        return _board(name)

    @app.post("/v1/dashboards", tags=["metrics"])
    async def put() -> dict[str, list[str]]:
        """Put the dashboards into Grafana again."""
        if not settings.grafana_host:
            raise HTTPException(409, "no Grafana is configured")
        return {"put": await _put_dashboards(settings)}

    @app.get("/v1/targets", tags=["metrics"])
    async def targets() -> list[dict[str, object]]:
        return [
            {"job": target.job, "url": target.url, "up": target.up, "error": target.error}
            for target in await store.now.targets()
        ]

    async def take(new: MetricsSettings) -> None:
        nonlocal settings
        store.put(connect(new), settings.timeout_s)
        moved = (new.grafana_url, new.grafana_token) != (settings.grafana_url, settings.grafana_token)
        settings = new
        if moved and new.grafana_host:
            await put_at_start()

    app.state.take = take
    add_face(app, "metrics", check, registry)
    return app


def _board(name: str) -> dict[str, Any]:
    from reference_stack.services.integration.metrics.dashboards import board  # Grafana's SDK is slow to import

    return board(name)


async def _put_dashboards(settings: MetricsSettings) -> list[str]:
    return await push(settings, [await asyncio.to_thread(_board, name) for name in BOARDS])


def _row(series: Series) -> dict[str, object]:
    # As text: NaN and the infinities, which Prometheus has, JSON has not.
    return {"labels": dict(series.labels), "points": [(at_s, str(value)) for at_s, value in series.points]}


def _add_errors(app: FastAPI, absent: str) -> None:
    @app.exception_handler(Unavailable)
    async def unavailable(_request: Request, error: Unavailable) -> JSONResponse:
        message = absent or error.message
        return JSONResponse({"detail": message}, status_code=503, headers={"Retry-After": "1"})

    @app.exception_handler(PushRefused)
    async def not_put(_request: Request, error: PushRefused) -> JSONResponse:
        return JSONResponse({"detail": error.message}, status_code=502)

    @app.exception_handler(QueryRefused)
    async def refused(_request: Request, error: QueryRefused) -> JSONResponse:
        return JSONResponse({"detail": error.message}, status_code=400)
