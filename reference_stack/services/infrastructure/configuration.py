"""The configuration service: what every service is configured to be, who said so, and a reload that cannot break it."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import asdict
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, Counter, Gauge

from reference_stack.errors import nearest
from reference_stack.face import add_face
from reference_stack.pace import Pace
from reference_stack.schemas.configuration import SETTINGS
from reference_stack.schemas.configuration.configuration import ConfigurationSettings
from reference_stack.schemas.configuration.export import environment_schema
from reference_stack.services.infrastructure.configurations import connect
from reference_stack.services.infrastructure.settled import Configuration, Unavailable

log = logging.getLogger(__name__)
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]
_OLD = "the last good one is in force: "


def create_app(
    settings: ConfigurationSettings,
    environ: Mapping[str, str] | None = None,
    *,
    configuration: Configuration | None = None,
) -> FastAPI:
    """Return the service. Raises InvalidConfiguration when its files have no good configuration to start with."""
    source = configuration or connect(settings, dict(os.environ) if environ is None else environ)
    registry = CollectorRegistry()
    reloads = Counter("hxp_configuration_reloads", "Reloads by outcome.", ("outcome",), registry=registry)
    loaded_at = Gauge(
        "hxp_configuration_loaded_timestamp_seconds", "When the last good one was read.", registry=registry
    )
    current = Gauge("hxp_configuration_current", "1 while the files that are there are in force.", registry=registry)
    current.set_function(lambda: float(not source.problems))
    reloading = asyncio.Lock()
    pace = Pace(settings.watch_s)

    async def heard(good: bool) -> None:
        reloads.labels("good" if good else "refused").inc()
        if good:
            found = await source.settled()
            loaded_at.set(found.loaded_at_s)
            log.info("the configuration was reloaded: version %s", found.version)
        else:
            log.warning("the configuration was not reloaded: %s", "; ".join(str(each) for each in source.problems))

    async def watch() -> None:
        with suppress(Unavailable):
            loaded_at.set((await source.settled()).loaded_at_s)
        while True:
            await pace.wait()
            async with reloading:
                good = await source.refresh()
            if good is not None:
                await heard(good)

    app = FastAPI(
        title="Configuration", lifespan=_watched(watch, source), docs_url=None, redoc_url=None, openapi_url=None
    )

    _add_pages(app, source)

    @app.post("/reload")
    async def reload() -> JSONResponse:
        """Read all layers again; 409 with every problem when they are not good, and the old ones stay."""
        async with reloading:
            good = await source.reload()
        await heard(good)
        found = asdict(await source.settled())
        del found["services"]
        body = {**found, "reloaded": good, "problems": [asdict(each) for each in source.problems]}
        return JSONResponse(body, status_code=200 if good else 409)

    async def check() -> Mapping[str, str]:
        try:
            await source.settled()
        except Unavailable as error:
            return {"files": error.message}
        return {"files": f"{_OLD}{source.problems[0].problem}" if source.problems else ""}

    async def take(new: ConfigurationSettings) -> None:
        pace.change(new.watch_s)

    app.state.take = take
    # An old configuration that is good serves; that a newer one is not shows as degraded.
    add_face(app, "configuration", check, registry, enough=_there_is_one)
    return app


def _watched(watch: Callable[[], Coroutine[None, None, None]], source: Configuration) -> Lifespan:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.ensure_future(watch())
        yield
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        await source.close()

    return lifespan


def _there_is_one(found: Mapping[str, str]) -> bool:
    return not found["files"] or found["files"].startswith(_OLD)


def _add_pages(app: FastAPI, source: Configuration) -> None:
    @app.exception_handler(Unavailable)
    async def unavailable(_request: Request, error: Unavailable) -> JSONResponse:
        return JSONResponse({"detail": error.message}, status_code=503, headers={"Retry-After": "1"})

    @app.get("/configuration")
    async def everything() -> dict[str, object]:
        """The effective settings of all services, each with its source, and why the last reload was refused."""
        return {**asdict(await source.settled()), "problems": [asdict(each) for each in source.problems]}

    @app.get("/configuration/{service}")
    async def one(service: str) -> dict[str, object]:
        if service not in SETTINGS:
            raise HTTPException(404, f"no such service; {nearest(service[:64], SETTINGS)}")
        found = asdict(await source.settled())
        return {"settings": found.pop("services")[service], **found}

    @app.get("/schema")
    async def schema() -> dict[str, Any]:
        """The JSON Schema of a file with the settings of all services."""
        return environment_schema()
