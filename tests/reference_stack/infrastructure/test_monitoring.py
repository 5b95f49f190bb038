"""The watch over the services, as a page, a document and a metric."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, Response
from starlette.types import Receive, Scope, Send

from reference_stack.catalogue import load_catalogue
from reference_stack.schemas.configuration.monitoring import MonitoringSettings
from reference_stack.services.infrastructure.monitoring.app import create_app
from tests.reference_stack.infrastructure.conftest import eventually, serving


class Neighbours:
    """One server that plays every service: the path is the service, the answer is what a test says."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.app = FastAPI()
        self.asked = 0

        @self.app.get("/{name}")
        async def health(name: str) -> Response:
            self.asked += 1
            status, body = self.answers[name]
            return Response(body, status_code=status)


@contextmanager
def watching(neighbours: Neighbours, *names: str, **more: object) -> Iterator[httpx.Client]:
    with serving(neighbours.app) as url:
        services = {name: f"{url}/{name}" for name in names}
        settings = MonitoringSettings.model_validate({"services": services, "deadline_s": 5, **more})
        with serving(create_app(settings)) as base, httpx.Client(base_url=base, timeout=10) as http:
            yield http


def service(http: httpx.Client, name: str) -> dict[str, object]:
    rows: list[dict[str, object]] = http.get("/status").json()["services"]
    return next(row for row in rows if row["name"] == name)


@pytest.fixture
def neighbours() -> Neighbours:
    found = Neighbours()
    found.answers = {
        "cache": (200, b'{"service":"cache","status":"ready","dependencies":{"redis":""}}'),
        "api_gateway": (200, b'{"status":"degraded","dependencies":{"mixtral":"","phi3":"it cannot be reached"}}'),
        "database": (503, b'{"status":"unready","dependencies":{"postgresql":"<script>alert(1)</script>"}}'),
        "mixtral": (200, b""),
        "phi3": (500, b"\xff not json"),
    }
    return found


def test_every_service_shows_its_state(neighbours: Neighbours) -> None:
    """Ready, degraded and unready are told apart, with the dependency that is out; vLLM's empty answer is ready."""
    with watching(neighbours, *neighbours.answers) as http:
        eventually(lambda: service(http, "cache")["state"] == "ready")
        status = http.get("/status").json()

        assert [row["name"] for row in status["services"]] == list(load_catalogue())
        assert (status["up"], status["of"], status["all_up"]) == (3, 12, False)
        assert service(http, "api_gateway")["state"] == "degraded"
        assert service(http, "api_gateway")["problem"] == "phi3: it cannot be reached"
        assert service(http, "database")["state"] == "unready"
        assert service(http, "mixtral")["state"] == "ready"
        assert (service(http, "phi3")["state"], service(http, "phi3")["problem"]) == ("unready", "answers 500")
        assert (service(http, "hermes")["state"], service(http, "hermes")["problem"]) == ("unknown", "not watched")


def test_the_gauge_says_up_or_down(neighbours: Neighbours) -> None:
    """`hxp_service_up` has one line a watched service."""
    with watching(neighbours, *neighbours.answers) as http:
        eventually(lambda: 'hxp_service_up{service="cache"} 1.0' in http.get("/metrics").text)
        text = http.get("/metrics").text

    assert 'hxp_service_up{service="database"} 0.0' in text
    assert 'hxp_service_up{service="api_gateway"} 1.0' in text
    assert len(re.findall(r"^hxp_service_up\{", text, re.MULTILINE)) == 5


def test_a_look_can_be_asked_for(neighbours: Neighbours) -> None:
    """POST /check looks at once; those that ask at the same moment share one look."""
    with watching(neighbours, "cache", interval_s=3600) as http:
        eventually(lambda: service(http, "cache")["state"] == "ready")
        neighbours.answers["cache"] = (503, b"{}")
        eventually(lambda: http.post("/check").json()["services"][10]["state"] == "unready")
        asked = neighbours.asked

        assert http.post("/check").status_code == 200
        assert neighbours.asked == asked


def test_looks_repeat_by_themselves(neighbours: Neighbours) -> None:
    """After the interval the state is read again."""
    with watching(neighbours, "cache", interval_s=0.05) as http:
        eventually(lambda: service(http, "cache")["state"] == "ready")
        neighbours.answers["cache"] = (503, b"{}")
        eventually(lambda: service(http, "cache")["state"] == "unready")


def test_a_service_that_is_away_or_silent_is_down() -> None:
    """A refused connection and an answer that does not come are two words for down."""

    async def silent(scope: Scope, receive: Receive, _send: Send) -> None:
        assert scope["type"] == "http"
        while (await receive())["type"] != "http.disconnect":
            pass

    with serving(silent) as url:
        urls = {"cache": "http://127.0.0.1:1/health", "metrics": url}
        settings = MonitoringSettings.model_validate({"services": urls, "deadline_s": 0.1})
        with serving(create_app(settings)) as base, httpx.Client(base_url=base) as http:
            eventually(lambda: service(http, "metrics")["state"] == "down")
            assert service(http, "metrics")["problem"] == "no answer within 0.1 s"
            assert service(http, "cache")["problem"] == "cannot be reached"
            assert http.get("/health").json() == {"service": "monitoring", "status": "ready", "dependencies": {}}


def test_the_page_is_plain_and_safe(neighbours: Neighbours) -> None:
    """The page reads itself again, runs no script, and shows what a service says as text."""
    with watching(neighbours, *neighbours.answers) as http:
        eventually(lambda: service(http, "database")["state"] == "unready")
        page = http.get("/")

    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert '<meta http-equiv="refresh" content="30">' in page.text
    assert '<meta name="viewport" content="width=device-width' in page.text
    assert "<script" not in page.text
    assert "&lt;script&gt;" in page.text
    assert "3 of 12 up" in page.text
    assert all(name in page.text for name in load_catalogue())


def test_a_service_beyond_the_twelve_can_be_watched(neighbours: Neighbours) -> None:
    """What is named and is none of the twelve stands behind them."""
    neighbours.answers["extra"] = (200, b"{}")
    with watching(neighbours, "extra") as http:
        eventually(lambda: service(http, "extra")["state"] == "ready")
        assert json.loads(http.get("/status").text)["services"][-1]["name"] == "extra"


def test_the_facts_of_the_founding_document_are_the_defaults() -> None:
    """Health is asked every 30 s and waited for 30 s."""
    settings = MonitoringSettings()

    assert (settings.interval_s, settings.deadline_s) == (30.0, 30.0)


def test_processes_are_measured(neighbours: Neighbours, tmp_path: Path) -> None:
    """CPU, memory and descriptors of a service are those of its process and all its children; a dead one has none."""
    argv = [sys.executable, "-c", "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"]
    state = tmp_path / "state.json"
    with subprocess.Popen(argv, stdin=subprocess.PIPE) as family, watching(neighbours, state_file=str(state)) as http:
        assert "hxp_process_count{" not in http.get("/metrics").text
        state.write_text(json.dumps({"services": {"cache": {"pid": family.pid}, "storage": {"pid": 2**22 - 1}}}))
        eventually(lambda: 'hxp_process_count{service="cache"} 2.0' in http.get("/metrics").text)
        text = http.get("/metrics").text
        family.communicate(b"\n")
        eventually(lambda: 'service="cache"' not in http.get("/metrics").text)

    found = dict(re.findall(r'^(hxp_process_\w+)\{service="cache"\} (\S+)$', text, re.MULTILINE))
    assert float(found["hxp_process_resident_bytes"]) > 5e6
    assert float(found["hxp_process_cpu_seconds_total"]) > 0
    assert float(found["hxp_process_open_files"]) >= 6
    assert 'service="storage"' not in text
