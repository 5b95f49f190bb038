"""What all twelve services show over HTTP: their health (startup, live, ready apart) and /metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from fastapi import Depends, FastAPI, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

# dependency name -> "" when it serves, else why not
Check = Callable[[], Awaitable[Mapping[str, str]]]
# the Prometheus text of a registry
Page = Callable[[CollectorRegistry], bytes]
# whether a service can serve, given what its check found
Enough = Callable[[Mapping[str, str]], bool]


def every_one(found: Mapping[str, str]) -> bool:
    """Every dependency serves."""
    return not any(found.values())


def _anybody() -> None:
    """Let everybody read the metrics."""


def add_face(
    app: FastAPI,
    name: str,
    check: Check,
    registry: CollectorRegistry,
    *,
    enough: Enough = every_one,
    page: Page = generate_latest,
    admit: Callable[..., None] = _anybody,
) -> None:
    """Add the common routes to `app`.

    /health/live is 200 while the process answers; a dependency that is out never makes it fail. /health/startup is 503
    until the service was ready for the first time, and 200 from then on. /health/ready and
    /health are 200 when what `check` found is `enough` ("degraded" when some dependency is out none the less), else
    503; a refused reload degrades and never fails. All three say `{"service", "status", "dependencies"}`. /metrics is
    the Prometheus text of `registry`, as `page` makes it, for whom `admit`, a dependency of the route, lets in.
    """

    @app.get("/health/live", tags=["health"])
    async def live() -> dict[str, str]:
        return {"service": name, "status": "live"}

    was_ready = False
    # Whoever reloads the settings (reloading.py) measures it here, and says what is wrong with those that are written.
    app.state.registry = registry
    app.state.settings_problem = ""

    async def ready() -> JSONResponse:
        nonlocal was_ready
        found = dict(await check())
        serves = enough(found)
        if app.state.settings_problem:
            found["settings"] = f"the last reload was refused: {app.state.settings_problem}"
        was_ready = was_ready or serves
        status = "unready" if not serves else "ready" if every_one(found) else "degraded"
        body = {"service": name, "status": status, "dependencies": found}
        return JSONResponse(body, status_code=200 if serves else 503)

    @app.get("/health/startup", tags=["health"])
    async def startup() -> JSONResponse:
        if not was_ready:
            await ready()
        body = {"service": name, "status": "started" if was_ready else "starting"}
        return JSONResponse(body, status_code=200 if was_ready else 503)

    app.get("/health/ready", tags=["health"])(ready)
    app.get("/health", tags=["health"])(ready)

    @app.get("/metrics", tags=["health"], response_class=Response, dependencies=[Depends(admit)])
    async def metrics() -> Response:
        return Response(page(registry), media_type=CONTENT_TYPE_LATEST)
