"""The model services: an engine is a command line."""

from __future__ import annotations

from reference_stack.orchestration.deployment.offer import Offer
from reference_stack.orchestration.deployment.room import Room
from reference_stack.orchestration.supervisor import Unit


def model(room: Room, name: str) -> list[Unit]:
    """Return the unit that serves model `name` on the wanted engine."""
    settings = {key: value for key, value in room.want.options.items() if key != "device"}
    return [room.service(name, {"service": name, "device": room.want.device, **settings}, health="/health")]


def offer(room: Room, name: str) -> Offer:
    url = room.face_url(name)
    return Offer(
        health_url=f"{url}/health",
        metrics_url=f"{url}/metrics",
        base_url=f"{url}/v1",
        api_model=name,
        engine=room.want.engine,
        evidence="simulated",
        facts={"device": f"{room.want.device.upper()} (simulated)"},
    )
