"""The contract of a configuration: the mock in memory, the files of this host, another configuration service."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from pydantic import ValidationError

from reference_stack.orchestration import ports
from reference_stack.schemas.configuration import SETTINGS
from reference_stack.schemas.configuration.configuration import ConfigurationSettings
from reference_stack.services.infrastructure.configuration import create_app
from reference_stack.services.infrastructure.configurations import MemoryConfiguration, connect
from reference_stack.services.infrastructure.settled import Configuration, Unavailable
from tests.reference_stack.infrastructure.conftest import eventually, serving
from tests.reference_stack.infrastructure.serving import serving_on
from tests.reference_stack.test_reloading import served
from tests.reference_stack.written import put

Said = Mapping[str, Mapping[str, object]]
Say = Callable[[Said], None]
LEGS = ("mock", "embedded", "external")


@dataclass
class Leg:
    """A configuration, and ways to say what services are to be set to: by this host, and by its environment."""

    configuration: Configuration
    say: Say
    source: str  # who says it, as the settings name it
    say_environment: Say | None = None  # memory has one layer only
    url: str = ""  # of the other service

    async def value(self, service: str, key: str) -> object:
        return (await self.configuration.settled()).services[service][key].value


class Files:
    """The files of an environment and a host."""

    def __init__(self, folder: Path) -> None:
        self.environment = folder / "environment.yaml"
        self.host = folder / "host.yaml"
        self.write(self.environment, {})
        self.write(self.host, {})

    @staticmethod
    def write(file: Path, said: Said) -> None:
        put(file, json.dumps(said, indent=1))

    def leg(self, configuration: Configuration, url: str = "") -> Leg:
        say, say_environment = partial(self.write, self.host), partial(self.write, self.environment)
        return Leg(configuration, say, str(self.host), say_environment, url)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Files, str]]:
    """A configuration service as a process of its own that reads when it is told to; its files, and its URL."""
    folder = tmp_path_factory.mktemp("elsewhere")
    files, own = Files(folder), folder / "service.json"
    said = {"environment_file": str(files.environment), "host_file": str(files.host), "watch_s": 0}
    own.write_text(json.dumps(said | {"variable_prefix": "NOBODY_"}))
    with served("configuration", own) as (http, _, _):
        yield files, str(http.base_url)


@pytest.fixture(params=LEGS)
async def leg(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Leg]:
    """Each leg, with nothing said; the external one is reached over HTTP alone."""
    if request.param == "mock":
        memory = MemoryConfiguration()

        def remember(said: Said) -> None:
            memory.said = dict(said)

        yield Leg(memory, remember, "memory")
        return
    if request.param == "embedded":
        files = Files(tmp_path)
        settings = ConfigurationSettings(environment_file=files.environment, host_file=files.host)
        found = files.leg(connect(settings, {}))
    else:
        files, url = request.getfixturevalue("elsewhere")
        files.write(files.environment, {})
        files.write(files.host, {})
        said = {"backend": "external", "url": url, "timeout_s": 30}
        found = files.leg(connect(ConfigurationSettings.model_validate(said), {}), url)
        assert await found.configuration.reload()
    yield found
    await found.configuration.close()


async def test_defaults_stand_where_nobody_speaks(leg: Leg) -> None:
    """All twelve services have every setting, each said to be a default, and when it was read."""
    found = await leg.configuration.settled()
    assert found.services.keys() == SETTINGS.keys()
    assert found.services["api_gateway"]["timeout_s"].value == 300.0
    assert found.services["mixtral"]["service"].value == "mixtral"
    assert {row.source for row in found.services["metrics"].values()} == {"default"}
    assert abs(found.loaded_at_s - time.time()) < 600


async def test_what_is_said_is_in_force_after_a_reload(leg: Leg) -> None:
    """Not before; with its source, beside defaults; and a reload of the same is the same version."""
    first = await leg.configuration.settled()
    leg.say({"cache": {"connections": 5}})
    assert await leg.configuration.settled() == first
    assert await leg.configuration.reload()
    second = await leg.configuration.settled()
    assert second.services["cache"]["connections"].value == 5
    assert second.services["cache"]["connections"].source.startswith(leg.source)
    assert second.services["cache"]["port"].source == "default"
    assert (second.version != first.version, second.loaded_at_s >= first.loaded_at_s) == (True, True)
    assert await leg.configuration.reload()
    assert (await leg.configuration.settled()).version == second.version


async def test_a_host_wins_over_its_environment(leg: Leg) -> None:
    """Key by key: what the host says hides what the environment says of it, and of nothing else; each is named."""
    if leg.say_environment is None:
        leg.say({"cache": {"connections": 5}})  # memory is one layer over the defaults
    else:
        leg.say_environment({"cache": {"connections": 5}, "database": {"command_s": 9}})
    assert await leg.configuration.reload()
    before = (await leg.configuration.settled()).services
    leg.say({"cache": {"connections": 6}, "database": {"acquire_s": 3}})
    assert await leg.configuration.reload()
    found = (await leg.configuration.settled()).services
    assert (before["cache"]["connections"].value, found["cache"]["connections"].value) == (5, 6)
    assert found["cache"]["connections"].source.startswith(leg.source)
    assert found["database"]["acquire_s"].value == 3
    assert (found["database"]["command_s"].value == 9) == (leg.say_environment is not None)
    assert found["database"]["command_s"].source.startswith("default") == (leg.say_environment is None)


WRONG = {"cache": {"connections": 6, "conections": 7}, "databse": {}, "storage": {"least_free_bytes": -1}}


async def test_a_wrong_one_changes_nothing_and_names_everything(leg: Leg) -> None:
    """What was good stays; every problem is told at once, with file, line, key and the nearest right spelling."""
    leg.say({"cache": {"connections": 5}})
    assert await leg.configuration.reload()
    good = await leg.configuration.settled()
    leg.say(WRONG)
    assert not await leg.configuration.reload()
    problems = {each.key: each for each in leg.configuration.problems}
    assert problems["cache.conections"].hint == "did you mean 'connections'?"
    assert problems["databse"].hint == "did you mean 'database'?"
    assert "greater than or equal to 0" in problems["storage.least_free_bytes"].problem
    assert {each.source for each in leg.configuration.problems} == {leg.source}
    assert [each.line is not None for each in problems.values()] == [leg.source != "memory"] * 3
    assert await leg.configuration.settled() == good


async def test_a_good_one_clears_what_was_wrong(leg: Leg) -> None:
    """Once it is good again no problem is left, and it is in force."""
    leg.say(WRONG)
    assert not await leg.configuration.reload()
    leg.say({"cache": {"connections": 8}})
    assert await leg.configuration.reload()
    assert leg.configuration.problems == ()
    assert await leg.value("cache", "connections") == 8


async def test_a_secret_shows_where_it_is_from_and_never_what_it_is(leg: Leg, tmp_path: Path) -> None:
    """A secret is stars and its file; another in the same file is another version; one that is not there is told."""
    kept = tmp_path / "secret"
    versions = []
    for secret in ("hunter2-is-secret", "hunter3-is-secret"):
        kept.write_text(secret)
        leg.say({"database": {"password": {"file": str(kept)}}})
        assert await leg.configuration.reload()
        found = await leg.configuration.settled()
        assert found.services["database"]["password"].value == f"********** (file {kept})"
        assert secret not in repr(found)
        versions.append(found.version)
    assert versions[0] != versions[1]
    leg.say({"database": {"password": {"file": str(tmp_path / "nothing")}}})
    assert not await leg.configuration.reload()
    assert [each.key for each in leg.configuration.problems] == ["database.password"]


async def test_a_refresh_reads_what_is_new_and_only_that(leg: Leg) -> None:
    """What is new is read by who looks; of another service, when that one has read it."""
    await leg.configuration.refresh()
    assert await leg.configuration.refresh() is None
    for said, good in (({"cache": {"connections": 9}}, True), ({"cache": {"connections": 0}}, False)):
        leg.say(said)
        if leg.url:
            async with httpx.AsyncClient(trust_env=False, timeout=60) as other:
                await other.post(f"{leg.url}/reload")
        assert await leg.configuration.refresh() is good
        assert await leg.configuration.refresh() is None
        assert await leg.value("cache", "connections") == 9


async def test_the_service_shows_it(leg: Leg) -> None:
    """Over HTTP, whichever it is: ready, one service's settings, a reload that is refused with 409 and degrades."""
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
            put(file, f"cache: {{connections: {connections}}}\n")
            with (
                ports.listen(reservation.port) as sock,
                serving_on(sock, create_app(ConfigurationSettings(host_file=file), {})),
            ):
                eventually(lambda: state() == "ready")
                shown = http.get("/configuration/cache").json()["settings"]["connections"]
                assert shown["value"] == connections
            eventually(lambda: state() == "degraded")
            assert "cannot be asked" in http.get("/health").text
            shown = http.get("/configuration/cache").json()["settings"]["connections"]
            assert shown["value"] == connections
    reservation.close()


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
