"""The infrastructure services: the gateway with its upstreams and key, and those that only need to be told where."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from reference_stack.catalogue import load_catalogue
from reference_stack.orchestration import state as states
from reference_stack.orchestration.deployment import backing
from reference_stack.orchestration.deployment.models import runner_of
from reference_stack.orchestration.deployment.offer import Offer
from reference_stack.orchestration.deployment.room import HOST, Room
from reference_stack.orchestration.deployment.want import MODELS
from reference_stack.orchestration.supervisor import Unit
from reference_stack.schemas.api.keys import digest_of
from reference_stack.schemas.configuration.api_gateway import ApiGatewaySettings

GATEWAY = "api_gateway"
JOURNAL = "journal"  # in the stack's folder
_TENANT = "local"  # whose documents the stack's own key may search
_MARGIN_S = 5.0  # what the gateway may take to end, beyond its time to drain


def api_gateway(room: Room) -> list[Unit]:
    """The gateway: every model of this stack behind it, and one key that may use them all."""
    pepper = room.secret("pepper", secrets.token_urlsafe(32))
    digest = digest_of(_key(room).encode(), pepper.read_bytes().strip())
    upstream = room.want.upstream
    models = [spec.name for spec in load_catalogue().values() if spec.group == MODELS] if upstream else room.models
    key: dict[str, object] = {"id": "local", "hash": digest.hex()}
    settings: dict[str, object] = {
        "upstreams": {name: {"base_url": upstream} if upstream else _upstream(room, name) for name in models},
        "keys": [key],
        "pepper_file": str(pepper),
    }
    if "database" in room.want.names and not room.want.mock:
        settings["database_dsn"] = backing.database_settings(room).dsn
        settings["cache_url"] = backing.cache_settings(room).url
        settings["journal"] = {"directory": str(room.want.folder / JOURNAL)}
    said = room.configured.said[GATEWAY]
    if said.get("retrieval"):
        settings["retrieval"] = {**_vectors(room), **_part(said, "retrieval")}
        key["tenant"] = _TENANT
    settings["process"] = {**_part(said, "process"), "control": str(control_path(room.want.folder))}
    if backing.has_metrics_door(room):
        settings["metrics"] = {**_part(said, "metrics"), "port": backing.gateway_metrics_port(room)}
    grace_s = room.settings(GATEWAY, ApiGatewaySettings).process.drain_s + _MARGIN_S
    unit = room.service(GATEWAY, settings)
    return [replace(unit, grace_s=grace_s, uses=(*unit.uses, "vector_database"))]


def _upstream(room: Room, name: str) -> dict[str, object]:
    """One of this stack's models; the gateway must be told where it does not generate."""
    served = {"routes": ["embeddings"]} if runner_of(room, name) == "pooling" else {}
    return {"base_url": f"{room.face_url(name)}/v1", **served}


def _vectors(room: Room) -> dict[str, object]:
    """Where the documents of this stack are, unless the configuration says it."""
    if room.want.mock:
        return {"backend": "mock"}
    if "vector_database" not in room.want.names:
        return {}
    at = urlsplit(backing.vectors_url(room))
    return {"host": at.hostname, "port": at.port, "grpc_port": backing.vectors_grpc_port(room)}


def _part(said: Mapping[str, object], name: str) -> dict[str, object]:
    part = said.get(name, {})
    return dict(part) if isinstance(part, Mapping) else {}


def control_path(folder: Path) -> Path:
    """Return where the gateway of the stack in `folder` takes commands."""
    return folder.absolute() / "gateway.sock"


def _key(room: Room) -> str:
    return room.secret("api_key", f"sk-local-{secrets.token_urlsafe(24)}").read_text(encoding="utf-8")


def _evidence(room: Room) -> str:
    """What a verdict on the gateway can stand for: no more than the models behind it."""
    if room.want.engine == "sim":
        return "simulated"
    return "tiny" if room.want.weights == "tiny" else "measured"


def _device(room: Room) -> str:
    return "CPU" if _evidence(room) == "tiny" else room.want.device


def monitoring(room: Room) -> list[Unit]:
    """The watch over every service of this stack; of itself it asks only whether it lives."""
    watched = {name: f"{room.face_url(name)}/health" for name in room.want.names}
    watched["monitoring"] = f"{room.face_url('monitoring')}/health/live"
    settings: dict[str, object] = {
        "services": watched,
        "state_file": str(states.path(room.want.folder)),
        "silences_file": str(room.data / "silences.json"),
    }
    prometheus = backing.prometheus_url(room) if "metrics" in room.want.names and not room.want.mock else ""
    if prometheus:
        settings["prometheus_url"] = prometheus
    return [room.service("monitoring", settings)]


def configuration(room: Room) -> list[Unit]:
    if room.want.mock:
        return [room.service("configuration", {"backend": "mock"})]
    files = {"environment_file": room.want.environment, "host_file": room.want.host_file}
    return [
        room.service("configuration", {key: str(file.absolute()) for key, file in files.items() if file is not None})
    ]


def storage(room: Room) -> list[Unit]:
    return [room.service("storage", {"backend": "mock"} if room.want.mock else {})]


def offer(room: Room, name: str) -> Offer:
    """Return what service `name`, which is no model, offers."""
    url = room.face_url(name)
    if name == GATEWAY:
        return Offer(
            health_url=f"{url}/health",
            metrics_url=f"http://{HOST}:{backing.gateway_metrics_port(room)}/metrics",
            base_url=f"{url}/v1",
            api_model=room.models[0] if room.models else "mixtral",
            api_key=_key(room),
            engine=room.want.engine,
            evidence=_evidence(room),
            facts={"upstream": f"{room.want.engine} on {_device(room)}"},
        )
    servers = {
        "database": lambda: backing.database_settings(room).dsn,
        "cache": lambda: backing.cache_settings(room).url,
        "vector_database": lambda: backing.vectors_url(room),
        "metrics": lambda: backing.prometheus_url(room),
    }
    behind = servers[name]() if name in servers and not room.want.mock else ""
    grpc_port = backing.vectors_grpc_port(room) if behind and name == "vector_database" else 0
    return Offer(f"{url}/health", f"{url}/metrics", behind, grpc_port)
