"""The gateway's processes over the admin API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx

from reference_stack.errors import NotReady
from reference_stack.place import Place
from reference_stack.schemas.configuration.api_gateway import ApiGatewaySettings
from reference_stack.services.infrastructure.api_gateway.app import create_app

TOKEN = "an admin token for tests alone"


class Parent:
    """Takes commands as the parent of workers does."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.error = ""
        self.gone = False

    async def command(self, word: str) -> Mapping[str, object]:
        if self.gone:
            raise NotReady("no gateway listens at /run/gateway.sock")
        self.heard.append(word)
        more = {"workers": [{"pid": 7, "state": "serving"}]} if word == "status" else {}
        return {"ok": not self.error, "error": self.error, **more}


@asynccontextmanager
async def administered(place: Place) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway with an admin API, whose database nobody asks."""
    settings = ApiGatewaySettings.model_validate(
        {
            "database_dsn": "postgresql://nobody@127.0.0.1:9/none",
            "pepper_env": "PATH",
            "admin": {"token": TOKEN},
        }
    )
    transport = httpx.ASGITransport(create_app(settings, place=place))
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://g", headers=headers) as client:
        yield client


async def test_workers_are_administered() -> None:
    """Each command reaches the parent; what it refuses is told without where its files lie; nobody else gets in."""
    parent = Parent()
    async with administered(Place(command=parent.command)) as client:
        assert (await client.get("/admin/gateway")).json() == {"workers": [{"pid": 7, "state": "serving"}]}
        for word in ("restart", "reload", "drain"):
            answer = await client.post(f"/admin/gateway/{word}")
            assert (answer.status_code, answer.json()) == (200, {})
            assert (
                await client.post(f"/admin/gateway/{word}", headers={"authorization": "Bearer no"})
            ).status_code == 401
        assert parent.heard == ["status", "restart", "reload", "drain"]
        parent.error = "/etc/hxp/gateway.yaml:3: api_gateway: setting 'timeot_s': no such setting"
        answer = await client.post("/admin/gateway/reload")
        assert answer.status_code == 409
        assert answer.json()["error"]["message"] == "gateway.yaml:3: api_gateway: setting 'timeot_s': no such setting"
        parent.gone = True
        answer = await client.post("/admin/gateway/restart")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert "/run/" not in answer.text


async def test_without_a_parent_there_is_nothing_to_command() -> None:
    """A gateway whose parent takes no commands has no such routes."""
    async with administered(Place()) as client:
        assert (await client.post("/admin/gateway/restart")).status_code == 404
