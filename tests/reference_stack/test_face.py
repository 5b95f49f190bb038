"""Startup, live and ready are three questions with three answers."""

from __future__ import annotations

from collections.abc import Mapping

import httpx
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from reference_stack.face import add_face


async def test_startup_live_and_ready_are_apart() -> None:
    """Before its dependency is there a service lives and is starting; later outages change readiness alone."""
    problem = "not there yet"

    async def check() -> Mapping[str, str]:
        return {"neighbour": problem}

    app = FastAPI()
    add_face(app, "cache", check, CollectorRegistry())
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:

        async def codes() -> list[int]:
            return [(await client.get(f"/health/{kind}")).status_code for kind in ("startup", "live", "ready")]

        assert await codes() == [503, 200, 503]
        assert (await client.get("/health/startup")).json() == {"service": "cache", "status": "starting"}
        problem = ""
        assert await codes() == [200, 200, 200]
        problem = "away"
        assert await codes() == [200, 200, 503]
        assert (await client.get("/health/startup")).json() == {"service": "cache", "status": "started"}
