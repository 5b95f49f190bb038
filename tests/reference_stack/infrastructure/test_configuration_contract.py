"""The contract of a configuration: the mock in memory, the files of this host, another configuration service."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from pydantic import ValidationError
from starlette.types import ASGIApp

from reference_stack.draining import uvicorn_config
from reference_stack.orchestration import ports
from reference_stack.schemas.configuration import SETTINGS
from reference_stack.schemas.configuration.configuration import ConfigurationSettings
from reference_stack.services.infrastructure.configuration import create_app
from reference_stack.services.infrastructure.configurations import MemoryConfiguration, connect
from reference_stack.services.infrastructure.settled import Configuration, Settled, Unavailable
from tests.reference_stack.infrastructure.conftest import eventually, serving
from tests.reference_stack.test_reloading import served

Said = Mapping[str, Mapping[str, object]]
Say = Callable[[Said], None]
LEGS = ("mock", "embedded", "external")


class Leg:
    """A configuration, and a way to say what services are to be set to."""

    def __init__(self, configuration: Configuration, say: Say, source: str) -> None:
        self.configuration = configuration
        self.say = say
        self.source = source  # who says it, as the settings name it

    async def value(self, service: str, key: str) -> object:
        return (await self.configuration.settled()).services[service][key].value


@asynccontextmanager
async def leg_of(kind: str, folder: Path) -> AsyncIterator[Leg]:
    """Open one leg; the external one is a configuration service as a process of its own, reached over HTTP alone."""
    if kind == "mock":
        memory = MemoryConfiguration()

        def remember(said: Said) -> None:
            memory.said = dict(said)

        yield Leg(memory, remember, "memory")
        return
    file = folder / "host.yaml"
    file.write_text("{}\n")

    def write(said: Said) -> None:
        draft = folder / "draft"
        draft.write_text(json.dumps(said, indent=1))
        draft.replace(file)

    with ExitStack() as stack:
        settings = ConfigurationSettings(host_file=file)
        if kind == "external":
            own = folder / "service.json"
            own.write_text(json.dumps({"host_file": str(file), "watch_s": 0, "variable_prefix": "NOBODY_"}))
            http, _, _ = stack.enter_context(served("configuration", own))
            said = {"backend": "external", "url": str(http.base_url), "timeout_s": 30}
            settings = ConfigurationSettings.model_validate(said)
        configuration = connect(settings, {})
        try:
            yield Leg(configuration, write, str(file))
        finally:
            await configuration.close()


@pytest.mark.parametrize("kind", LEGS)
async def test_one_configuration_wherever_it_is(kind: str, tmp_path: Path) -> None:
    """Defaults stand where nobody speaks; what is said is in force after a reload with its source, and not before; a
    wrong one changes nothing and names key, nearest spelling and problem; a good one clears that; secrets are stars;
    a refresh reads what is new, and only that.
    """
    async with leg_of(kind, tmp_path) as leg:
        configuration = leg.configuration
        first = await configuration.settled()
        _all_services_at_their_defaults(first)

        leg.say({"cache": {"connections": 5}})
        assert await configuration.settled() == first
        assert await configuration.reload()
        second = await configuration.settled()
        assert second.services["cache"]["connections"].value == 5
        assert second.services["cache"]["connections"].source.startswith(leg.source)
        assert second.services["cache"]["port"].source == "default"
        assert (second.version != first.version, second.loaded_at_s >= first.loaded_at_s) == (True, True)
        assert await configuration.reload()
        assert (await configuration.settled()).version == second.version

        leg.say({"cache": {"connections": 6, "conections": 7}, "databse": {}, "storage": {"least_free_bytes": -1}})
        assert not await configuration.reload()
        problems = {each.key: each for each in configuration.problems}
        assert problems["cache.conections"].hint == "did you mean 'connections'?"
        assert problems["databse"].hint == "did you mean 'database'?"
        assert "greater than or equal to 0" in problems["storage.least_free_bytes"].problem
        assert {each.source for each in configuration.problems} == {leg.source}
        assert [each.line is not None for each in problems.values()] == [kind != "mock"] * 3
        assert await leg.value("cache", "connections") == 5

        leg.say({"database": {"password": {"env": "PATH"}}} if kind == "external" else {"cache": {"connections": 8}})
        assert await configuration.reload()
        assert configuration.problems == ()
        if kind == "external":
            assert await leg.value("database", "password") == "********** (env PATH)"
        await configuration.refresh()
        assert await configuration.refresh() is None
        await _refreshes(leg)


def _all_services_at_their_defaults(found: Settled) -> None:
    assert found.services.keys() == SETTINGS.keys()
    assert found.services["api_gateway"]["timeout_s"].value == 300.0
    assert found.services["mixtral"]["service"].value == "mixtral"
    assert {row.source for row in found.services["metrics"].values()} == {"default"}
    assert abs(found.loaded_at_s - time.time()) < 120


async def _refreshes(leg: Leg) -> None:
    """What is new is read by who looks; of an external one, when that one has read it."""
    for said, good in (({"cache": {"connections": 9}}, True), ({"cache": {"connections": 0}}, False)):
        leg.say(said)
        if leg.configuration.__class__.__name__ == "RemoteConfiguration":
            async with httpx.AsyncClient(trust_env=False, timeout=30) as other:  # told by somebody else
                await other.post(f"{leg.configuration._url}/reload")  # type: ignore[attr-defined]  # where it is
        assert await leg.configuration.refresh() is good
        assert await leg.configuration.refresh() is None
        assert await leg.value("cache", "connections") == 9


@pytest.mark.parametrize("kind", LEGS)
async def test_the_service_shows_it(kind: str, tmp_path: Path) -> None:
    """Over HTTP, whichever it is: ready, one service's settings, a reload that is refused with 409 and degrades."""
    async with leg_of(kind, tmp_path) as leg:
        app = create_app(ConfigurationSettings(watch_s=0), {}, configuration=leg.configuration)
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://t") as http:
            assert (await http.get("/health")).json()["status"] == "ready"
            leg.say({"cache": {"connections": 5}})
            assert (await http.post("/reload")).status_code == 200
            shown = (await http.get("/configuration/cache")).json()["settings"]["connections"]
            assert (shown["value"], shown["source"].startswith(leg.source)) == (5, True)
            leg.say({"cache": {"connections": -5}})
            reply = await http.post("/reload")
            assert (reply.status_code, reply.json()["problems"][0]["key"]) == (409, "cache.connections")
            health = await http.get("/health")
            assert (health.status_code, health.json()["status"]) == (200, "degraded")
            assert (await http.get("/configuration/cache")).json()["settings"]["connections"]["value"] == 5
            assert "hxp_configuration_current 0.0" in (await http.get("/metrics")).text


def test_who_is_away_holds_what_it_said_last(tmp_path: Path) -> None:
    """Down at the start: not ready, 503, and it lives; when the other one comes it serves; when that one goes, what it
    said last stays and the service is degraded; when it is back, all is ready again, by itself.
    """
    file = tmp_path / "host.yaml"
    file.write_text("cache: {connections: 5}\n")
    reservation = ports.reserve()
    url = f"http://127.0.0.1:{reservation.port}"
    following = ConfigurationSettings.model_validate(
        {"backend": "external", "url": url, "watch_s": 0.02, "timeout_s": 2}
    )
    with serving(create_app(following, {})) as here, httpx.Client(base_url=here, timeout=30) as http:

        def state() -> str:
            return str(http.get("/health").json()["status"])

        assert http.get("/health/live").status_code == 200
        assert state() == "unready"
        assert http.get("/configuration").headers["retry-after"] == "1"
        for connections in (5, 6):
            file.write_text(f"cache: {{connections: {connections}}}\n")
            with at_port(reservation.port, create_app(ConfigurationSettings(host_file=file), {})):
                eventually(lambda: state() == "ready")
                shown = http.get("/configuration/cache").json()["settings"]["connections"]
                assert shown["value"] == connections
            eventually(lambda: state() == "degraded")
            assert "cannot be asked" in http.get("/health").text
            shown = http.get("/configuration/cache").json()["settings"]["connections"]
            assert shown["value"] == connections
    reservation.close()


@contextmanager
def at_port(port: int, app: ASGIApp) -> Iterator[None]:
    """Serve on a port that is reserved."""
    with ports.listen(port) as sock:
        config = uvicorn_config(app)
        config.timeout_graceful_shutdown = 1
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        try:
            yield
        finally:
            server.should_exit = True
            thread.join(20)


def test_external_needs_an_address() -> None:
    """Who is to follow another service has to be told which."""
    with pytest.raises(ValidationError, match="needs the url"):
        ConfigurationSettings(backend="external")


async def test_what_is_no_configuration_service_is_said() -> None:
    """A page of something else is no configuration: it is unavailable, in words."""
    other = FastAPI()
    other.get("/configuration", response_class=HTMLResponse)(lambda: "<html>")
    with serving(other) as url:
        said = {"backend": "external", "url": url, "timeout_s": 10}
        configuration = connect(ConfigurationSettings.model_validate(said), {})
        with pytest.raises(Unavailable, match="cannot be asked"):
            await configuration.settled()
        assert not await configuration.reload()
        await configuration.close()
