"""The vector database service over HTTP: health, metrics, collections and searches."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated

from fastapi import FastAPI, Header, Request
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, Gauge
from pydantic import BaseModel, ConfigDict, Field

from reference_stack.face import add_face
from reference_stack.schemas.configuration.vector_database import VectorDatabaseSettings
from reference_stack.services.integration.swap import Swap
from reference_stack.services.integration.vector_database.client import connect
from reference_stack.services.integration.vector_database.port import Collection, Refused, Unavailable, VectorDatabase
from reference_stack.services.integration.vector_database.tenants import TenantVectors

TENANT_HEADER = "X-HXP-Tenant"


class Search(BaseModel):
    """The body of a search."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vector: Annotated[list[float], Field(min_length=1, max_length=65536)]
    limit: Annotated[int, Field(gt=0, le=1000)] = 10
    where: dict[str, str | int | bool] = Field(default_factory=dict)


def create_app(settings: VectorDatabaseSettings, *, vectors: VectorDatabase | None = None) -> FastAPI:
    """Return the service's application. With backend `embedded` it also serves Qdrant's API on two more ports."""
    store = Swap(connect(settings) if vectors is None else vectors)
    declared = _declared(settings)
    registry = CollectorRegistry()
    up = Gauge("hxp_vector_database_up", "1 when the vector database answered the last check", registry=registry)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            if settings.backend == "embedded" and vectors is None:
                from reference_stack.services.integration.vector_database.embedded import serving

                await stack.enter_async_context(serving(settings))
            stack.push_async_callback(store.close)
            yield

    app = FastAPI(title="Vector database", lifespan=lifespan, docs_url=None, redoc_url=None)

    async def check() -> Mapping[str, str]:
        reason = await store.now.ping()
        up.set(not reason)
        return {"qdrant": reason}

    @app.exception_handler(Unavailable)
    async def unavailable(_request: Request, error: Unavailable) -> JSONResponse:
        return JSONResponse({"detail": error.message}, status_code=503, headers={"Retry-After": "1"})

    @app.exception_handler(Refused)
    async def refused(_request: Request, error: Refused) -> JSONResponse:
        return JSONResponse({"detail": error.message}, status_code=400)

    @app.get("/v1/collections", tags=["vectors"])
    async def collections() -> list[str]:
        return await store.now.collections()

    @app.post("/v1/collections/{name}/search", tags=["vectors"])
    async def search(
        name: str, wanted: Search, tenant: Annotated[str, Header(alias=TENANT_HEADER, max_length=200)] = ""
    ) -> list[dict[str, object]]:
        """Search for the tenant in the header alone, where the collection has tenants; whatever `where` says."""
        collection = declared.get(name)
        if collection is not None:
            await store.now.ensure(collection)
        if collection is not None and collection.tenant:
            found = await TenantVectors(store.now, collection, tenant).search(wanted.vector, wanted.limit, wanted.where)
        else:
            found = await store.now.search(name, wanted.vector, wanted.limit, wanted.where)
        return [{"id": row.id, "score": row.score, "payload": dict(row.payload)} for row in found]

    async def take(new: VectorDatabaseSettings) -> None:
        nonlocal settings, declared
        store.put(connect(new), settings.timeout_s)
        settings, declared = new, _declared(new)

    app.state.take = take
    add_face(app, "vector_database", check, registry)
    return app


def _declared(settings: VectorDatabaseSettings) -> dict[str, Collection]:
    return {name: Collection(name, **row.model_dump()) for name, row in settings.collections.items()}
