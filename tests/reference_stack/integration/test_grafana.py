"""Dashboards put into Grafana: a small one of our own that remembers, refuses or changes what it is given."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from reference_stack.__main__ import main
from reference_stack.schemas.configuration.metrics import MetricsSettings
from reference_stack.services.integration.metrics.app import create_app
from reference_stack.services.integration.metrics.dashboards import board
from reference_stack.services.integration.metrics.grafana import push
from reference_stack.services.integration.metrics.port import PushRefused, Unavailable
from reference_stack.services.integration.metrics.queries import BOARDS
from tests.reference_stack.infrastructure.conftest import eventually, serving


class Grafana:
    """What Grafana's pages say of the two calls that dashboards need (HTTP API, "Dashboard", version 11): a title is
    needed, a uid has at most 40 characters, one that is there is replaced with `overwrite` or at its own version, and
    what is put is given back with an id and a version. No package has Grafana itself.
    """

    def __init__(self) -> None:
        self.boards: dict[str, dict[str, Any]] = {}
        self.loses_panels = False
        self.app = FastAPI()

        @self.app.post("/api/dashboards/db")
        async def put(request: Request) -> Response:
            if request.headers.get("authorization") != "Bearer t0ken":
                return JSONResponse({"message": "Invalid API key"}, 401)
            body = await request.json()
            made = body["dashboard"]
            status, message = self._refusal(made, overwrite=body.get("overwrite", False))
            if message:
                return JSONResponse({"message": message}, status)
            uid = made["uid"]
            before = self.boards.get(uid, {"id": len(self.boards) + 1, "version": 0})
            panels = made["panels"][: -1 if self.loses_panels else None]
            self.boards[uid] = {**made, "panels": panels, "id": before["id"], "version": before["version"] + 1}
            told = {key: self.boards[uid][key] for key in ("id", "uid", "version")}
            return JSONResponse({"status": "success", "url": f"/d/{uid}/{uid}", "slug": uid, **told})

        @self.app.get("/api/dashboards/uid/{uid}")
        async def get(uid: str) -> Response:
            if uid not in self.boards:
                return JSONResponse({"message": "Dashboard not found"}, 404)
            return JSONResponse({"dashboard": self.boards[uid], "meta": {"slug": uid, "folderUid": ""}})

    def _refusal(self, made: dict[str, Any], *, overwrite: bool) -> tuple[int, str]:
        if not made.get("title"):
            return 400, "Dashboard title cannot be empty"
        if len(made["uid"]) > 40:
            return 400, "uid too long, max 40 characters"
        if made["id"] is not None and made["id"] not in {board["id"] for board in self.boards.values()}:
            return 404, "Dashboard not found"
        known = self.boards.get(made["uid"])
        if known is not None and not overwrite and made.get("version") != known["version"]:
            return 412, "The dashboard has been changed by someone else"
        return 200, ""


@pytest.fixture
def grafana() -> Iterator[tuple[Grafana, MetricsSettings]]:
    """A Grafana, and the settings that reach it."""
    found = Grafana()
    with serving(found.app) as url:
        port = int(url.rsplit(":", 1)[1])
        said = {"backend": "mock", "grafana_host": "127.0.0.1", "grafana_port": port, "grafana_token": "t0ken"}
        yield found, MetricsSettings.model_validate(said)


async def test_what_is_put_is_there(grafana: tuple[Grafana, MetricsSettings]) -> None:
    """All four boards are put and read back the same, by who asks Grafana itself; putting them again replaces them.

    With HXP_TEST_GRAFANA_URL (and HXP_TEST_GRAFANA_TOKEN) it is a real one.
    """
    _, settings = grafana
    if url := os.environ.get("HXP_TEST_GRAFANA_URL"):
        parts = urlsplit(url)
        said = {"grafana_host": parts.hostname, "grafana_port": parts.port or 3000}
        token = {"grafana_token": os.environ.get("HXP_TEST_GRAFANA_TOKEN", "")}
        settings = MetricsSettings.model_validate({**said, **token})
    boards = [board(name) for name in BOARDS]

    versions = []
    for _ in range(2):
        assert await push(settings, boards) == [f"hxp-{name}" for name in BOARDS]
        headers = {"Authorization": f"Bearer {settings.grafana_token.get_secret_value()}"}
        async with httpx.AsyncClient(base_url=settings.grafana_url, headers=headers, trust_env=False) as http:
            there = (await http.get("/api/dashboards/uid/hxp-model")).json()["dashboard"]
        assert [panel["title"] for panel in there["panels"]] == [panel["title"] for panel in board("model")["panels"]]
        versions.append((there["id"], there["version"]))
    (first, one), (second, other) = versions
    assert (first == second, other > one) == (True, True)


async def test_a_grafana_that_refuses_or_changes_is_told(grafana: tuple[Grafana, MetricsSettings]) -> None:
    """A wrong token, panels that went missing, something that is no Grafana, and nobody there are told apart."""
    there, settings = grafana
    wrong = MetricsSettings.model_validate({**settings.model_dump(), "grafana_token": "other"})
    with pytest.raises(PushRefused, match="answers 401") as refused:
        await push(wrong, [board("run")])
    assert "grafana_token" in refused.value.hint
    there.loses_panels = True
    with pytest.raises(PushRefused, match="other panels in hxp-run"):
        await push(settings, [board("run")])
    for content in (b"<html>", b"[]"):
        transport = httpx.MockTransport(lambda _request, content=content: httpx.Response(200, content=content))
        with pytest.raises(PushRefused, match="not Grafana"):
            await push(settings, [board("run")], transport=transport)
    with pytest.raises(Unavailable, match="Grafana cannot be asked"):
        await push(MetricsSettings(grafana_host="127.0.0.1", grafana_port=1), [board("run")])


def test_the_service_puts_them_at_its_start_and_when_told(grafana: tuple[Grafana, MetricsSettings]) -> None:
    """Where a Grafana is configured the boards get there without a command."""
    there, settings = grafana
    with serving(create_app(settings)) as url, httpx.Client(base_url=url, timeout=20) as http:
        eventually(lambda: len(there.boards) == len(BOARDS))
        there.boards.clear()
        assert http.post("/v1/dashboards").json() == {"put": [f"hxp-{name}" for name in BOARDS]}
        there.loses_panels = True
        assert http.post("/v1/dashboards").status_code == 502
        assert http.get("/v1/dashboards/gateway").json()["uid"] == "hxp-gateway"
        assert "did you mean 'gateway'" in http.get("/v1/dashboards/gatway").json()["detail"]


def test_a_grafana_that_is_away_stops_nothing() -> None:
    """The service starts and serves, and says so in its log; without any Grafana, putting is a wrong question."""
    away = MetricsSettings(backend="mock", grafana_host="127.0.0.1", grafana_port=1)
    with serving(create_app(away)) as url:
        assert httpx.get(f"{url}/health").status_code == 200
        assert httpx.post(f"{url}/v1/dashboards", timeout=20).status_code == 503
    with serving(create_app(MetricsSettings(backend="mock"))) as url:
        assert httpx.post(f"{url}/v1/dashboards").status_code == 409


def test_the_command_puts_them_too(
    grafana: tuple[Grafana, MetricsSettings], capsys: pytest.CaptureFixture[str]
) -> None:
    """`hxp-stack metrics push` says where each board is; without a Grafana it says how to name one."""
    there, settings = grafana
    words = [f"metrics.grafana_{key}={value}" for key, value in (("host", "127.0.0.1"), ("token", "t0ken"))]
    words.append(f"metrics.grafana_port={settings.grafana_port}")
    assert main(["metrics", "push", *(part for word in words for part in ("--set", word))]) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"{settings.grafana_url}/d/hxp-overview"
    assert len(there.boards) == len(BOARDS)
    assert main(["metrics", "push"]) == 2
    assert "no Grafana is configured" in capsys.readouterr().err
