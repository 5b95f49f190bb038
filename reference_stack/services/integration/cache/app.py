"""The cache service over HTTP: health, metrics, values and rate limits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Annotated

from fastapi import FastAPI, HTTPException, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, Gauge

from reference_stack.face import add_face
from reference_stack.schemas.configuration.cache import CacheSettings
from reference_stack.services.integration.cache.client import connect
from reference_stack.services.integration.cache.port import Cache, Unavailable
from reference_stack.services.integration.swap import Swap

_LARGEST_VALUE_BYTES = 1024 * 1024
_Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9._:-]{1,200}$")]
_Seconds = Annotated[float, Query(gt=0, le=86_400)]


def _cache(settings: CacheSettings) -> Cache:
    if settings.backend != "mock":
        return connect(settings)
    from reference_stack.services.integration.cache.memory import MemoryCache

    return MemoryCache(settings)


def create_app(settings: CacheSettings, *, cache: Cache | None = None) -> FastAPI:
    """Return the service's application."""
    store = Swap(_cache(settings) if cache is None else cache)
    registry = CollectorRegistry()
    up = Gauge("hxp_cache_up", "1 when the cache answered the last check", registry=registry)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await store.close()

    app = FastAPI(title="Cache", lifespan=lifespan, docs_url=None, redoc_url=None)

    async def check() -> Mapping[str, str]:
        reason = await store.now.ping()
        up.set(not reason)
        return {"cache": reason}

    @app.exception_handler(Unavailable)
    async def unavailable(_request: Request, error: Unavailable) -> JSONResponse:
        return JSONResponse({"detail": error.message}, status_code=503, headers={"Retry-After": "1"})

    @app.get("/v1/values/{name}", tags=["values"])
    async def get(name: _Name) -> Response:
        value = await store.now.get(name)
        if value is None:
            raise HTTPException(404, "no such value")
        return Response(value, media_type="application/octet-stream")

    @app.put("/v1/values/{name}", tags=["values"], status_code=204)
    async def put(name: _Name, request: Request, ttl_s: _Seconds = 60.0) -> None:
        value = b""
        async for chunk in request.stream():
            value += chunk
            if len(value) > _LARGEST_VALUE_BYTES:
                raise HTTPException(413, f"a value has at most {_LARGEST_VALUE_BYTES} bytes")
        await store.now.put(name, value, ttl_s)

    @app.delete("/v1/values/{name}", tags=["values"], status_code=204)
    async def drop(name: _Name) -> None:
        await store.now.drop(name)

    @app.post("/v1/limits/{name}", tags=["limits"])
    async def allow(
        name: _Name, limit: Annotated[int, Query(ge=0)], window_s: _Seconds, cost: Annotated[int, Query(ge=1)] = 1
    ) -> dict[str, object]:
        return asdict(await store.now.allow(name, limit, window_s, cost))

    async def take(new: CacheSettings) -> None:
        nonlocal settings
        store.put(_cache(new), settings.command_s)
        settings = new

    app.state.take = take
    add_face(app, "cache", check, registry)
    return app
