"""The configuration service: what every service is configured to be, who said so, and a reload that cannot break it."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from typing import Any

from fastapi import FastAPI, HTTPException
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, Counter, Gauge

from reference_stack.errors import nearest
from reference_stack.face import add_face
from reference_stack.pace import Pace
from reference_stack.schemas.configuration import SETTINGS
from reference_stack.schemas.configuration.configuration import ConfigurationSettings
from reference_stack.schemas.configuration.export import environment_schema
from reference_stack.services.infrastructure.configured import Keeper, show

log = logging.getLogger(__name__)


def create_app(settings: ConfigurationSettings, environ: Mapping[str, str] | None = None) -> FastAPI:
    """Return the service. Raises InvalidConfiguration when there is no good configuration to start with."""
    keeper = Keeper(settings, dict(os.environ) if environ is None else environ)
    registry = CollectorRegistry()
    reloads = Counter("hxp_configuration_reloads", "Reloads by outcome.", ("outcome",), registry=registry)
    loaded_at = Gauge(
        "hxp_configuration_loaded_timestamp_seconds", "When the last good one was read.", registry=registry
    )
    loaded_at.set_function(lambda: keeper.loaded.at_s)
    current = Gauge("hxp_configuration_current", "1 while the files that are there are in force.", registry=registry)
    current.set_function(lambda: float(not keeper.problems))
    reloading = asyncio.Lock()
    pace = Pace(settings.watch_s)

    async def read_again() -> bool:
        async with reloading:
            good = await asyncio.to_thread(keeper.reload)
        reloads.labels("good" if good else "refused").inc()
        if good:
            log.info("the configuration was reloaded: version %s", keeper.loaded.version)
        else:
            log.warning("the configuration was not reloaded: %s", "; ".join(str(each) for each in keeper.problems))
        return good

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async def watch() -> None:
            while True:
                await pace.wait()
                if await asyncio.to_thread(keeper.changed):
                    await read_again()

        watching = asyncio.ensure_future(watch())
        yield
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching

    app = FastAPI(title="Configuration", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/configuration")
    async def everything() -> dict[str, object]:
        """The effective settings of all services, each with its source."""
        services = {name: _rows(keeper, name) for name in keeper.loaded.effective.services}
        return {**_summary(keeper), "services": services}

    @app.get("/configuration/{service}")
    async def one(service: str) -> dict[str, object]:
        if service not in SETTINGS:
            raise HTTPException(404, f"no such service; {nearest(service[:64], SETTINGS)}")
        return {**_summary(keeper), "settings": _rows(keeper, service)}

    @app.get("/schema")
    async def schema() -> dict[str, Any]:
        """The JSON Schema of a file with the settings of all services."""
        return environment_schema()

    @app.post("/reload")
    async def reload() -> JSONResponse:
        """Read all layers again; 409 with every problem when they are not good, and the old ones stay."""
        good = await read_again()
        body = {**_summary(keeper), "reloaded": good, "problems": [asdict(each) for each in keeper.problems]}
        return JSONResponse(body, status_code=200 if good else 409)

    async def check() -> Mapping[str, str]:
        return {"files": f"the last reload was refused: {keeper.problems[0].problem}" if keeper.problems else ""}

    async def take(new: ConfigurationSettings) -> None:
        pace.change(new.watch_s)

    app.state.take = take
    # An old configuration that is good serves; that a newer one is not shows as degraded.
    add_face(app, "configuration", check, registry, enough=lambda _found: True)
    return app


def _rows(keeper: Keeper, service: str) -> dict[str, dict[str, object]]:
    rows = show(keeper.loaded.effective, service)
    return {key: {"value": row.value, "source": str(row.origin)} for key, row in rows.items()}


def _summary(keeper: Keeper) -> dict[str, object]:
    return {"version": keeper.loaded.version, "loaded_at_s": keeper.loaded.at_s}
