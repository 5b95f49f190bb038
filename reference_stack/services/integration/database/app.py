"""The database service over HTTP: health, metrics, the keys and the usage log to read, the history of runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, Gauge
from pydantic import AwareDatetime

from reference_stack.face import add_face
from reference_stack.schemas.api.runs import JudgedRun, RunVerdict
from reference_stack.schemas.configuration.database import DatabaseSettings
from reference_stack.services.integration.database.memory import MemoryDatabase
from reference_stack.services.integration.database.port import Database, Unavailable
from reference_stack.services.integration.database.postgres import PostgresDatabase
from reference_stack.services.integration.swap import Swap

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_END = datetime(9999, 1, 1, tzinfo=UTC)


def connect(settings: DatabaseSettings) -> Database:
    """Return the database that `settings` name; it connects when first asked."""
    return MemoryDatabase() if settings.backend == "mock" else PostgresDatabase(settings)


def create_app(settings: DatabaseSettings, *, database: Database | None = None) -> FastAPI:
    """Return the service's application. Keys and usage can only be read: others write them."""
    store = Swap(connect(settings) if database is None else database)
    registry = CollectorRegistry()
    up = Gauge("hxp_database_up", "1 when the database answered the last check", registry=registry)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await store.close()

    app = FastAPI(title="Database", lifespan=lifespan, docs_url=None, redoc_url=None)

    async def check() -> Mapping[str, str]:
        reason = await store.now.ping()
        up.set(not reason)
        return {"postgresql": reason}

    @app.exception_handler(Unavailable)
    async def unavailable(_request: Request, error: Unavailable) -> JSONResponse:
        return JSONResponse({"detail": error.message}, status_code=503, headers={"Retry-After": "1"})

    @app.get("/v1/keys", tags=["keys"])
    async def keys() -> list[dict[str, object]]:
        return [
            {
                "id": stored.key.id,
                "name": stored.name,
                "tenant": stored.key.tenant,
                "models": sorted(stored.key.models),
                "revoked": stored.revoked,
                "expires": stored.key.expires,
            }
            for stored in await store.now.keys.all_keys()
        ]

    @app.get("/v1/usage", tags=["usage"])
    async def usage(since: AwareDatetime = _BEGINNING, until: AwareDatetime = _END) -> list[dict[str, object]]:
        return [asdict(total) for total in await store.now.usage.totals(since, until)]

    _add_runs(app, store)

    async def take(new: DatabaseSettings) -> None:
        nonlocal settings
        store.put(connect(new), settings.acquire_s + settings.command_s)
        settings = new

    app.state.take = take
    add_face(app, "database", check, registry)
    return app


def _add_runs(app: FastAPI, store: Swap[Database]) -> None:
    @app.put("/v1/runs/{run_id}", tags=["runs"], status_code=204)
    async def record(run_id: str, judged: JudgedRun) -> None:
        if judged.run.id != run_id:
            raise HTTPException(400, "the run's id is not that of the address")
        await store.now.runs.record(judged)

    @app.get("/v1/runs", tags=["runs"])
    async def recent(limit: Annotated[int, Query(ge=1, le=1000)] = 50, service: str = "") -> list[JudgedRun]:
        return await store.now.runs.recent(limit, service)

    @app.get("/v1/runs/{run_id}", tags=["runs"])
    async def find(run_id: str) -> JudgedRun:
        found = await store.now.runs.find(run_id)
        if found is None:
            raise HTTPException(404, "no such run")
        return found

    @app.get("/v1/runs/{run_id}/verdicts", tags=["runs"])
    async def verdicts(run_id: str) -> list[RunVerdict]:
        return await store.now.runs.verdicts(run_id)
