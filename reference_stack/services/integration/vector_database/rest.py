"""Qdrant's REST API over the embedded engine: what a client of ours uses of it."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Body, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from qdrant_client import models

from reference_stack.services.integration.vector_database.engine import Engine, EngineError
from reference_stack.services.integration.vector_database.filters import UnknownCondition

VERSION = "1.20.0"  # the API that is spoken


def create_rest(engine: Engine) -> FastAPI:
    """Return the application. Answers are `{"result", "status", "time"}`, errors too."""
    app = FastAPI(title="Embedded vector store", docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(_health())
    app.include_router(_collections(engine))
    app.include_router(_points(engine))

    @app.exception_handler(EngineError)
    async def refused(_request: Request, error: EngineError) -> JSONResponse:
        return JSONResponse({"status": {"error": str(error)}, "time": 0.0}, status_code=error.status)

    @app.exception_handler(RequestValidationError)
    async def unread(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body")
        said = f"Format error in JSON body: {where}: {first['msg']}"
        return JSONResponse({"status": {"error": said}, "time": 0.0}, status_code=400)

    @app.exception_handler(UnknownCondition)
    async def unknown(_request: Request, error: UnknownCondition) -> JSONResponse:
        return JSONResponse({"status": {"error": f"Not implemented: {error}"}, "time": 0.0}, status_code=501)

    return app


def _health() -> APIRouter:
    routes = APIRouter()

    @routes.get("/")
    async def version() -> dict[str, str]:
        return {"title": "embedded vector store: Qdrant's engine behind our API", "version": VERSION}

    for path in ("/healthz", "/readyz", "/livez"):

        @routes.get(path)
        async def healthy() -> str:
            return "healthz check passed"

    return routes


def _collections(engine: Engine) -> APIRouter:
    routes = APIRouter(prefix="/collections")

    @routes.get("")
    def names() -> JSONResponse:
        return _ok({"collections": [{"name": name} for name in engine.names()]})

    @routes.get("/{name}/exists")
    def exists(name: str) -> JSONResponse:
        return _ok({"exists": engine.exists(name)})

    @routes.get("/{name}")
    def info(name: str) -> JSONResponse:
        return _ok(engine.info(name).model_dump(mode="json", exclude_none=True))

    @routes.put("/{name}")
    def create(name: str, wanted: models.CreateCollection) -> JSONResponse:
        engine.create(name, wanted.vectors, wanted.sparse_vectors)
        return _ok(True)

    @routes.put("/{name}/index")
    def index(name: str, wanted: models.CreateFieldIndex) -> JSONResponse:
        engine.index(name, wanted.field_name, wanted.field_schema)
        return _done()

    @routes.post("/{name}/snapshots")
    def snapshot(name: str) -> JSONResponse:
        engine.snapshot(name)

    @routes.delete("/{name}")
    def drop(name: str) -> JSONResponse:
        return _ok(engine.drop(name))

    return routes


def _points(engine: Engine) -> APIRouter:
    routes = APIRouter(prefix="/collections/{name}/points")

    @routes.put("")
    def upsert(name: str, wanted: models.PointsList) -> JSONResponse:
        engine.upsert(name, wanted.points)
        return _done()

    @routes.post("")
    def retrieve(name: str, wanted: models.PointRequest) -> JSONResponse:
        return _ok([row.model_dump(mode="json") for row in engine.retrieve(name, wanted)])

    @routes.post("/delete")
    def delete(name: str, wanted: Annotated[models.PointsSelector, Body()]) -> JSONResponse:
        engine.delete(name, wanted)
        return _done()

    @routes.post("/query")
    def query(name: str, wanted: models.QueryRequest) -> JSONResponse:
        return _ok({"points": [row.model_dump(mode="json") for row in engine.query(name, wanted)]})

    @routes.post("/count")
    def count(name: str, wanted: models.CountRequest) -> JSONResponse:
        return _ok({"count": engine.count(name, wanted.filter)})

    @routes.post("/scroll")
    def scroll(name: str, wanted: models.ScrollRequest) -> JSONResponse:
        return _ok(engine.scroll(name, wanted).model_dump(mode="json"))

    return routes


def _ok(result: object) -> JSONResponse:
    return JSONResponse({"result": result, "status": "ok", "time": 0.0})


def _done() -> JSONResponse:
    return _ok({"operation_id": time.monotonic_ns(), "status": "completed"})
