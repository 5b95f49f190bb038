"""The integration services and the servers behind them."""

from __future__ import annotations

from dataclasses import replace

from reference_stack.errors import NotReady
from reference_stack.orchestration import readiness
from reference_stack.orchestration.deployment.room import HOST, Room
from reference_stack.orchestration.supervisor import Unit
from reference_stack.schemas.configuration.api_gateway import ApiGatewaySettings
from reference_stack.schemas.configuration.cache import CacheSettings
from reference_stack.schemas.configuration.database import DatabaseSettings
from reference_stack.schemas.configuration.metrics import MetricsSettings
from reference_stack.schemas.configuration.vector_database import VectorDatabaseSettings

POSTGRES, VALKEY, PROMETHEUS = "postgres", "valkey", "prometheus"
_GATEWAY = "api_gateway"
_BACKEND_GRACE_S = 5.0
_FETCH_S = 20.0


def database_settings(room: Room) -> DatabaseSettings:
    """Where this stack's PostgreSQL is: its own, or the one that is configured."""
    if room.external("database"):
        return room.settings("database", DatabaseSettings)
    return DatabaseSettings(host=HOST, port=room.port(POSTGRES, DatabaseSettings().port))


def cache_settings(room: Room) -> CacheSettings:
    """Where this stack's Redis protocol server is: its own, or the one that is configured."""
    if room.external("cache"):
        return room.settings("cache", CacheSettings)
    return CacheSettings(host=HOST, port=room.port(VALKEY, CacheSettings().port))


def vectors_url(room: Room) -> str:
    """Return the URL of the server that speaks Qdrant's REST API."""
    if room.external("vector_database"):
        return room.settings("vector_database", VectorDatabaseSettings).url
    return f"http://{HOST}:{room.port('qdrant', 6333)}"


def vectors_grpc_port(room: Room) -> int:
    """Return the port on which that server speaks gRPC."""
    if room.external("vector_database"):
        return room.settings("vector_database", VectorDatabaseSettings).grpc_port
    return room.port("qdrant_grpc", 6334)


def prometheus_url(room: Room) -> str:
    """Return the URL of Prometheus; empty where this stack has none."""
    if room.external("metrics"):
        return room.settings("metrics", MetricsSettings).prometheus_url
    return f"http://{HOST}:{room.port(PROMETHEUS, 9090)}" if room.reserved(PROMETHEUS) else ""


def _behind(server: Unit, service: Unit) -> list[Unit]:
    """Return `server` and the `service` that stands before it, and ends before it."""
    return [server, replace(service, uses=(server.name,))]


def database(room: Room) -> list[Unit]:
    """PostgreSQL, then the service that looks after keys and usage in it."""
    from reference_stack.services.integration.database.embedded import EmbeddedPostgres

    if room.want.mock:
        return [room.service("database", {"backend": "mock"})]
    if room.external("database"):
        return [room.service("database", {})]
    settings = database_settings(room)
    program = EmbeddedPostgres(settings, room.data, room.want.cache).prepare()
    probe = readiness.postgres(HOST, settings.port, settings.user, settings.database)
    server = Unit(POSTGRES, program, probe, grace_s=_BACKEND_GRACE_S, kept_up=True)
    return _behind(server, room.service("database", {"host": HOST, "port": settings.port}))


def cache(room: Room) -> list[Unit]:
    """Valkey, then the service that speaks for it."""
    from reference_stack.services.integration.cache.embedded import program

    if room.want.mock:
        return [room.service("cache", {"backend": "mock"})]
    if room.external("cache"):
        return [room.service("cache", {})]
    settings = cache_settings(room)
    probe = readiness.redis(HOST, settings.port)
    server = Unit(VALKEY, program(settings, room.data), probe, grace_s=_BACKEND_GRACE_S, kept_up=True)
    return _behind(server, room.service("cache", {"host": HOST, "port": settings.port}))


def vector_database(room: Room) -> list[Unit]:
    """One process: the service, and Qdrant's engine in it behind Qdrant's API on two ports of its own."""
    if room.want.mock:
        return [room.service("vector_database", {"backend": "mock"})]
    if room.external("vector_database"):
        return [room.service("vector_database", {})]
    settings = {
        "port": room.port("qdrant", 6333),
        "grpc_port": vectors_grpc_port(room),
        "folder": str(room.data / "qdrant"),
    }
    return [room.service("vector_database", settings)]  # the server is in it


def has_metrics_door(room: Room) -> bool:
    """Whether the gateway's metrics have a port of their own."""
    return room.settings(_GATEWAY, ApiGatewaySettings).metrics.port is not None


def gateway_metrics_port(room: Room) -> int:
    """Return the port on which the gateway's metrics are: beside its API unless they have one of their own."""
    wanted = room.settings(_GATEWAY, ApiGatewaySettings).metrics.port
    return room.face_port(_GATEWAY) if wanted is None else room.port(f"{_GATEWAY} metrics", wanted)


def metrics(room: Room) -> list[Unit]:
    """Prometheus where there is one, then the service that asks it."""
    from reference_stack.services.integration.metrics.embedded import EmbeddedPrometheus, fetch, find

    if room.want.mock:
        return [room.service("metrics", {"backend": "mock"})]
    if room.external("metrics"):
        return [room.service("metrics", {})]
    try:
        binary = find(room.want.cache) or fetch(room.want.cache, _FETCH_S)
    except NotReady as error:
        room.notes.append(f"no Prometheus: {error.message}; try: hxp-stack tools")
        return [room.service("metrics", {"absent": f"no Prometheus: {error.message}"})]
    port = room.port(PROMETHEUS, 9090)
    scraped = {name: room.face_port(name) for name in room.want.names}
    if _GATEWAY in scraped:
        scraped[_GATEWAY] = gateway_metrics_port(room)
    key = room.settings(_GATEWAY, ApiGatewaySettings).metrics.key if _GATEWAY in scraped else None
    program = EmbeddedPrometheus(binary, room.data).prepare(
        port,
        scraped,
        interval_s=room.settings("metrics", MetricsSettings).collection_interval_s,
        keys={} if key is None else {_GATEWAY: key},
    )
    server = Unit(
        PROMETHEUS, program, readiness.http(f"http://{HOST}:{port}/-/ready"), grace_s=_BACKEND_GRACE_S, kept_up=True
    )
    return _behind(server, room.service("metrics", {"prometheus_port": port}))
