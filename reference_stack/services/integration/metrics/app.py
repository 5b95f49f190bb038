"""The metrics service over HTTP: health, its own metrics, and questions to Prometheus."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, Gauge

from reference_stack.face import add_face
from reference_stack.schemas.configuration.metrics import MetricsSettings
from reference_stack.services.integration.metrics.client import PrometheusMetrics
from reference_stack.services.integration.metrics.memory import MemoryMetrics
from reference_stack.services.integration.metrics.port import Metrics, QueryRefused, Series, Unavailable

_Expression = Annotated[str, Query(min_length=1, max_length=4000)]


def connect(settings: MetricsSettings) -> Metrics:
    """Return the metrics that `settings` name."""
    return MemoryMetrics() if settings.backend == "mock" else PrometheusMetrics(settings)


def create_app(settings: MetricsSettings, *, metrics: Metrics | None = None) -> FastAPI:
    """Return the service's application. Without a Prometheus it serves, and says what it cannot answer."""
    store = connect(settings) if metrics is None else metrics
    registry = CollectorRegistry()
    up = Gauge("hxp_prometheus_up", "1 when Prometheus answered the last check", registry=registry)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await store.close()

    app = FastAPI(title="Metrics", lifespan=lifespan, docs_url=None, redoc_url=None)

    async def check() -> Mapping[str, str]:
        if settings.absent:
            return {}
        reason = await store.ping()
        up.set(not reason)
        return {"prometheus": reason}

    @app.exception_handler(Unavailable)
    async def unavailable(_request: Request, error: Unavailable) -> JSONResponse:
        message = settings.absent or error.message
        return JSONResponse({"detail": message}, status_code=503, headers={"Retry-After": "1"})

    @app.exception_handler(QueryRefused)
    async def refused(_request: Request, error: QueryRefused) -> JSONResponse:
        return JSONResponse({"detail": error.message}, status_code=400)

    @app.get("/v1/query", tags=["metrics"])
    async def query(expression: _Expression) -> list[dict[str, object]]:
        return [_row(series) for series in await store.query(expression)]

    @app.get("/v1/query_range", tags=["metrics"])
    async def query_range(
        expression: _Expression, start_s: float, end_s: float, step_s: Annotated[float, Query(gt=0)] = 15.0
    ) -> list[dict[str, object]]:
        return [_row(series) for series in await store.query_range(expression, start_s, end_s, step_s)]

    @app.get("/v1/targets", tags=["metrics"])
    async def targets() -> list[dict[str, object]]:
        return [
            {"job": target.job, "url": target.url, "up": target.up, "error": target.error}
            for target in await store.targets()
        ]

    add_face(app, "metrics", check, registry)
    return app


def _row(series: Series) -> dict[str, object]:
    # As text: NaN and the infinities, which Prometheus has, JSON has not.
    return {"labels": dict(series.labels), "points": [(at_s, str(value)) for at_s, value in series.points]}
