"""What the gateway shows of itself: whether it serves, and its metrics for whom they are."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import FastAPI

from reference_stack.face import add_face
from reference_stack.place import Place
from reference_stack.schemas.configuration.api_gateway import ApiGatewaySettings
from reference_stack.services.infrastructure.api_gateway.doors import metrics_guard
from reference_stack.services.infrastructure.api_gateway.journal.journal import DiskJournal
from reference_stack.services.infrastructure.api_gateway.measures import Measures
from reference_stack.services.infrastructure.api_gateway.upstream import Upstreams
from reference_stack.services.infrastructure.api_gateway.usage import UsageLog
from reference_stack.services.integration.database.postgres import PostgresDatabase
from reference_stack.services.integration.vector_database.port import VectorDatabase

_SELF = "api_gateway"


@dataclass(frozen=True, slots=True)
class Around:
    """What the gateway needs around it."""

    upstreams: Upstreams
    usage: UsageLog | DiskJournal
    database: PostgresDatabase | None
    vectors: VectorDatabase | None = None


def show(app: FastAPI, settings: ApiGatewaySettings, place: Place, measures: Measures, around: Around) -> None:
    """Add the routes of health and metrics to `app`."""
    upstreams, usage = around.upstreams, around.usage

    async def check() -> Mapping[str, str]:
        found, out, lost = await asyncio.gather(upstreams.health(), _ping(around.database), _ping(around.vectors))
        measures.healthy(found)
        beside = {"journal": usage.problem} if isinstance(usage, DiskJournal) else {}
        beside |= {} if around.database is None else {"database": out}
        beside |= {} if around.vectors is None else {"vector_database": lost}
        beside |= {_SELF: "it is being stopped"} if place.stopping() else {}
        return {**(found or {"upstreams": "none is configured"}), **beside}

    def one_model(found: Mapping[str, str]) -> bool:
        # One model out of four, or a database, is no reason to take the others away; a full disk is.
        return any(found[name] == "" for name in settings.upstreams) and not usage.problem and _SELF not in found

    guard = metrics_guard(settings.metrics)
    add_face(app, _SELF, check, measures.registry, enough=one_model, page=place.page, admit=guard)


async def _ping(database: PostgresDatabase | VectorDatabase | None) -> str:
    return "" if database is None else await database.ping()
