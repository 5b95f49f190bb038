"""What all twelve services show over HTTP: /health, /health/live, /health/ready and /metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

# dependency name -> "" when it serves, else why not
Check = Callable[[], Awaitable[Mapping[str, str]]]


def add_face(app: FastAPI, name: str, check: Check, registry: CollectorRegistry) -> None:
    """Add the common routes to `app`.

    /health/live is 200 while the process answers; a dependency that is out never makes it fail. /health/ready and
    /health are 200 when every dependency that `check` names serves, else 503; all three say `{"service", "status",
    "dependencies"}`. /metrics is the Prometheus text of `registry`.
    """

    @app.get("/health/live", tags=["health"])
    async def live() -> dict[str, str]:
        return {"service": name, "status": "live"}

    async def ready() -> JSONResponse:
        found = dict(await check())
        bad = any(found.values())
        body = {"service": name, "status": "unready" if bad else "ready", "dependencies": found}
        return JSONResponse(body, status_code=503 if bad else 200)

    app.get("/health/ready", tags=["health"])(ready)
    app.get("/health", tags=["health"])(ready)

    @app.get("/metrics", tags=["health"], response_class=Response)
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
