"""What is put where: a stack as a list of units, and what it will offer once they are ready."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from reference_stack.catalogue import load_catalogue
from reference_stack.orchestration.deployment import backing, infrastructure, models
from reference_stack.orchestration.deployment.offer import Offer
from reference_stack.orchestration.deployment.room import Room
from reference_stack.orchestration.deployment.want import MODELS
from reference_stack.orchestration.supervisor import Unit

_PARTS: Mapping[str, Callable[[Room], list[Unit]]] = {
    "api_gateway": infrastructure.api_gateway,
    "monitoring": infrastructure.monitoring,
    "configuration": infrastructure.configuration,
    "storage": infrastructure.storage,
    "database": backing.database,
    "vector_database": backing.vector_database,
    "cache": backing.cache,
    "metrics": backing.metrics,
}


@dataclass(frozen=True, slots=True)
class Plan:
    """`units` start in the order of their needs; `offers` is what each service will be called by."""

    units: tuple[Unit, ...]
    offers: Mapping[str, Offer] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def draw(room: Room) -> Plan:
    """Return the plan for what `room` is wanted for. Ports are reserved and files are written; nothing is started."""
    units: list[Unit] = []
    offers: dict[str, Offer] = {}
    for name in room.want.names:
        if load_catalogue()[name].group == MODELS:
            started, offers[name] = models.model(room, name)
            units += started
        else:
            units += _PARTS[name](room)
            offers[name] = infrastructure.offer(room, name)
    return Plan(tuple(units), offers, tuple(room.notes))
