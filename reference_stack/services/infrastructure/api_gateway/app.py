"""Puts the gateway together: routes, who may use them, and what runs beside them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.types import Lifespan

from reference_stack.errors import SettingsError
from reference_stack.place import Place
from reference_stack.schemas.api.keys import KeyFeed, KeyRepository
from reference_stack.schemas.api.retrieval import SearchPage
from reference_stack.schemas.api.usage import UsageRepository
from reference_stack.schemas.configuration.api_gateway import ApiGatewaySettings
from reference_stack.services.infrastructure.api_gateway.admin.door import admin_router
from reference_stack.services.infrastructure.api_gateway.admin.keys import add_keys
from reference_stack.services.infrastructure.api_gateway.admin.workers import add_workers
from reference_stack.services.infrastructure.api_gateway.asgi import Relayed
from reference_stack.services.infrastructure.api_gateway.asked import CHAT, COMPLETIONS, EMBEDDINGS, RELAYED
from reference_stack.services.infrastructure.api_gateway.cache import cache_at
from reference_stack.services.infrastructure.api_gateway.call import call_of
from reference_stack.services.infrastructure.api_gateway.database import address_of, database_at
from reference_stack.services.infrastructure.api_gateway.descriptors import fitted
from reference_stack.services.infrastructure.api_gateway.edge import Edge
from reference_stack.services.infrastructure.api_gateway.head import Head
from reference_stack.services.infrastructure.api_gateway.hot.door import Door
from reference_stack.services.infrastructure.api_gateway.hot.protocol import GatewayProtocol
from reference_stack.services.infrastructure.api_gateway.journal.journal import DiskJournal
from reference_stack.services.infrastructure.api_gateway.keys.answers import SharedAnswers
from reference_stack.services.infrastructure.api_gateway.keys.keeper import Keeper
from reference_stack.services.infrastructure.api_gateway.keys.limits import LeasedLimits
from reference_stack.services.infrastructure.api_gateway.keys.ring import KeyRing
from reference_stack.services.infrastructure.api_gateway.keys.usage import usage_of
from reference_stack.services.infrastructure.api_gateway.measures import Measures
from reference_stack.services.infrastructure.api_gateway.plain import NoAnswers
from reference_stack.services.infrastructure.api_gateway.ports import Answers, Ports
from reference_stack.services.infrastructure.api_gateway.refusal import Refusal
from reference_stack.services.infrastructure.api_gateway.retrieval.search import SEARCH, Searches, described, path_of
from reference_stack.services.infrastructure.api_gateway.retrieval.vectors import vectors_at
from reference_stack.services.infrastructure.api_gateway.routing.measures import RoutingCollector
from reference_stack.services.infrastructure.api_gateway.routing.router import Router
from reference_stack.services.infrastructure.api_gateway.routing.watch import keep_watch
from reference_stack.services.infrastructure.api_gateway.settlement import Settlement
from reference_stack.services.infrastructure.api_gateway.shown import Around, show
from reference_stack.services.infrastructure.api_gateway.story import Story
from reference_stack.services.infrastructure.api_gateway.traces import traces_to
from reference_stack.services.infrastructure.api_gateway.upstream import Upstreams
from reference_stack.services.infrastructure.api_gateway.usage import UsageLog
from reference_stack.services.infrastructure.api_gateway.wire.pool import Pool
from reference_stack.services.integration.cache.port import Cache
from reference_stack.services.integration.cache.responses import ResponseCache
from reference_stack.services.integration.database.port import Database
from reference_stack.services.integration.vector_database.port import VectorDatabase

_MODELS = "/v1/models"
_USAGE = "/v1/usage"
_ROUTES = (
    *RELAYED,
    _MODELS,
    _USAGE,
    "/health",
    "/health/startup",
    "/health/live",
    "/health/ready",
    "/metrics",
)


def create_app(
    settings: ApiGatewaySettings,
    *,
    key_repository: KeyRepository | None = None,
    key_feed: KeyFeed | None = None,
    usage_repository: UsageRepository | None = None,
    ports: Ports | None = None,
    place: Place | None = None,
    vectors: VectorDatabase | None = None,
) -> FastAPI:
    """Return the gateway. The repositories are those of the database at `database_dsn` unless given.

    `ports` are made from the settings unless given, and so is `vectors`, which is closed with the gateway; `place` is
    where it runs, alone unless given.

    Raises SettingsError when that is no URL of a database.
    """
    place = place or Place()
    settings = settings.model_copy(update={"limits": fitted(settings.limits)})
    measures = Measures((*settings.upstreams, *settings.stores))
    upstreams = Upstreams(settings)
    database = None if settings.database_dsn is None else database_at(settings.database_dsn.get_secret_value())
    if database is not None:
        key_repository, key_feed = key_repository or database.keys, key_feed or database.feed
        usage_repository = usage_repository or database.usage
    usage = _journal(settings, usage_repository, measures)
    ring = KeyRing(
        (key.key() for key in settings.keys),
        settings.pepper(),
        key_repository,
        fresh_s=settings.key_cache_s,
        stale_s=settings.key_stale_s,
        told=key_feed is not None,
    )

    cache = None if settings.cache_url is None else cache_at(settings.cache_url.get_secret_value(), settings.cache_s)
    sharers = settings.sharers * settings.workers
    limits = LeasedLimits(cache, None if database is None else database.spend, sharers=sharers)
    router = _router(settings, upstreams, measures, place)
    ports = ports or Ports(usage, limits, router, _answers(settings, cache))
    traces = traces_to(settings.traces)
    story = Story(settings, ring, ports, measures, traces)
    place.on_cut.append(story.cut)
    place.on_turn.append(measures.count)
    place.collectors.append(measures.counting)
    settlement = Settlement(measures, ports.journal, place.line)
    pool = Pool(story.watch, settings.connect_s)
    if settings.retrieval is not None and vectors is None:
        vectors = vectors_at(settings.retrieval)
    searches = None if settings.retrieval is None or vectors is None else Searches(settings.retrieval, story, vectors)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await upstreams.start()
        story.watch.start()
        usage.start()
        if cache is not None:
            await cache.ping()  # so that the first request finds a connection
        beside = [asyncio.ensure_future(each) for each in (usage.run(), limits.run(), keep_watch(router, settings))]
        if key_feed is not None:
            beside.append(asyncio.ensure_future(key_feed.follow(ring)))
        try:
            yield
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            story.watch.stop()
            for each in (pool, usage, limits, cache, upstreams, traces, database, vectors):
                if each is not None:
                    await each.close()

    app = _application(settings, place, database, story, pool, settlement, searches, lifespan)
    show(app, settings, place, measures, Around(upstreams, usage, database, vectors))
    return app


def _application(
    settings: ApiGatewaySettings,
    place: Place,
    database: Database | None,
    story: Story,
    pool: Pool,
    settlement: Settlement,
    searches: Searches | None,
    lifespan: Lifespan[FastAPI],
) -> FastAPI:
    """Return the routes for clients, and beside them the short way to the same story."""
    app = FastAPI(
        title="API gateway",
        lifespan=lifespan,
        docs_url="/docs" if settings.open_docs else None,
        redoc_url=None,
        openapi_url="/openapi.json" if settings.open_docs else None,
        redirect_slashes=False,
    )
    app.include_router(_api(settings, database, story, Relayed(story, pool), searches))
    if settings.admin is not None and database is not None:
        admin = admin_router(settings.admin)
        add_keys(admin, Keeper(database.keys, database.spend, settings.pepper()), database.usage, settings.limits)
        if place.command is not None:
            add_workers(admin, place.command)
        app.include_router(admin)
    app.add_exception_handler(HTTPException, _refuse_route)
    routes = {route: route for route in _ROUTES} | {path_of(store): SEARCH for store in settings.stores}
    app.add_middleware(Edge, routes=routes, header_bytes=settings.limits.header_bytes, settlement=settlement)
    door = Door(story, pool, settlement, tuple(RELAYED) if settings.hot_path else ())
    app.state.http_protocol = partial(GatewayProtocol, door)
    return app


def _answers(settings: ApiGatewaySettings, cache: Cache | None) -> Answers:
    if cache is None:
        return NoAnswers()
    return SharedAnswers(ResponseCache(cache, settings.answers.ttl_s, settings.answers.most_bytes))


def _router(settings: ApiGatewaySettings, upstreams: Upstreams, measures: Measures, place: Place) -> Router:
    router = Router(settings, upstreams.by_model)
    collector = RoutingCollector(router.pools)
    measures.registry.register(collector)
    place.collectors.append(collector)
    return router


def _journal(
    settings: ApiGatewaySettings, repository: UsageRepository | None, measures: Measures
) -> UsageLog | DiskJournal:
    """Return what usage is written down in: a journal on disk where the settings say where, else memory."""
    if settings.journal.directory is None:
        return UsageLog(repository, measures, most_held=settings.usage_rows_held)
    if repository is None:
        hint = "give database_dsn, or leave journal.directory out"
        raise SettingsError("api_gateway: journal.directory without a database to store its rows in", hint=hint)
    owner = "" if settings.database_dsn is None else address_of(settings.database_dsn.get_secret_value())
    return DiskJournal(settings.journal, repository, measures, most_open=settings.limits.in_flight, owner=owner)


def _guarded(story: Story) -> type[APIRoute]:
    """Return the class of routes that let nobody in without a key.

    Authentication belongs to the class, so that a route of the router that uses it cannot be without.
    """

    class Guarded(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[None, None, Response]]:
            handle = super().get_route_handler()

            async def admit_first(request: Request) -> Response:
                await story.admit(call_of(request.scope), Head(request.scope["headers"]))
                return await handle(request)

            return admit_first

    return Guarded


def _api(
    settings: ApiGatewaySettings, database: Database | None, story: Story, relayed: Relayed, searches: Searches | None
) -> APIRouter:
    api = APIRouter(route_class=_guarded(story))

    @api.post(CHAT, tags=["completions"])
    async def chat() -> Response:
        return relayed

    @api.post(COMPLETIONS, tags=["completions"])
    async def completions() -> Response:
        return relayed

    @api.post(EMBEDDINGS, tags=["embeddings"])
    async def embeddings() -> Response:
        return relayed

    @api.get(_MODELS, tags=["models"])
    async def models(request: Request) -> JSONResponse:
        key = call_of(request.scope).key
        visible = [name for name in settings.upstreams if key is not None and key.may_use(name)]
        rows = [{"id": name, "object": "model", "created": 0, "owned_by": "hxp"} for name in visible]
        return JSONResponse({"object": "list", "data": rows})

    @api.get(_USAGE, tags=["usage"])
    async def usage(request: Request) -> JSONResponse:
        key = call_of(request.scope).key
        assert key is not None  # noqa: S101 - the route is behind authentication
        return JSONResponse(await usage_of(key, database, request.query_params))

    if searches is not None:

        @api.post(SEARCH, tags=["retrieval"], responses={200: {"model": SearchPage}}, openapi_extra=described())
        async def search(request: Request, store: str) -> Response:
            return await searches.answer(request, store)

    return api


async def _refuse_route(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 405:
        raise Refusal(405, "method_not_allowed", "this route does not answer that method")
    raise Refusal(status, "not_found", "there is no such route here")
