"""The configuration service: what every service is configured to be, who said so, and a reload that cannot break it."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

import msgspec
from fastapi import FastAPI, HTTPException
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, Counter, Gauge

from reference_stack.errors import nearest
from reference_stack.face import add_face
from reference_stack.schemas.configuration import SETTINGS
from reference_stack.schemas.configuration.configuration import ConfigurationSettings
from reference_stack.schemas.configuration.layers import (
    Effective,
    InvalidConfiguration,
    Layer,
    Problem,
    lay,
    read_assignment,
    read_file,
    read_variables,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that was found good, when (seconds since 1970), and a digest that names it."""

    effective: Effective
    at_s: float
    version: str


def load(settings: ConfigurationSettings, environ: Mapping[str, str]) -> Loaded:
    """Read all layers as they are now. Raises InvalidConfiguration with every problem found."""
    effective = lay(list(_layers(settings, environ)))
    shown = msgspec.json.encode({name: describe(effective, name) for name in effective.services}, order="sorted")
    return Loaded(effective, time.time(), hashlib.sha256(shown).hexdigest()[:16])


def _layers(settings: ConfigurationSettings, environ: Mapping[str, str]) -> Iterator[Layer]:
    for file in (settings.environment_file, settings.host_file):
        if file is not None:
            yield read_file(file)
    yield from read_variables(environ, settings.variable_prefix)
    for text in settings.assignments:
        yield read_assignment(text)


def describe(effective: Effective, service: str) -> dict[str, dict[str, object]]:
    """Return each setting of a service as {"value", "source"} by dotted key; what is secret shows as stars."""
    dumped = effective.services[service].model_dump(mode="json")
    return {key: {"value": value, "source": effective.source(service, key)} for key, value in _flat(dumped)}


def _flat(value: object, at: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, dict) and value:
        for name, each in value.items():
            yield from _flat(each, f"{at}.{name}" if at else str(name))
    else:
        yield at, value


class Keeper:
    """Keeps the last good configuration, and what was wrong with the last attempt to read another."""

    def __init__(self, settings: ConfigurationSettings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._environ = environ
        self.loaded = load(settings, environ)
        self.problems: tuple[Problem, ...] = ()

    def reload(self) -> bool:
        """Read everything again; return whether it was good. What was good before stays until then."""
        try:
            self.loaded = load(self._settings, self._environ)
        except InvalidConfiguration as error:
            self.problems = error.problems
            log.warning("the configuration was not reloaded: %s", error.message)
            return False
        self.problems = ()
        log.info("the configuration was reloaded: version %s", self.loaded.version)
        return True


def create_app(settings: ConfigurationSettings, environ: Mapping[str, str] | None = None) -> FastAPI:
    """Return the service. Raises InvalidConfiguration when there is no good configuration to start with."""
    keeper = Keeper(settings, dict(os.environ) if environ is None else environ)
    registry = CollectorRegistry()
    reloads = Counter("hxp_configuration_reloads", "Reloads by outcome.", ("outcome",), registry=registry)
    loaded_at = Gauge(
        "hxp_configuration_loaded_timestamp_seconds", "When the last good one was read.", registry=registry
    )
    loaded_at.set_function(lambda: keeper.loaded.at_s)
    app = FastAPI(title="Configuration", docs_url=None, redoc_url=None, openapi_url=None)
    reloading = asyncio.Lock()

    @app.get("/configuration")
    async def everything() -> dict[str, object]:
        """The effective settings of all services, each with its source."""
        services = {name: describe(keeper.loaded.effective, name) for name in keeper.loaded.effective.services}
        return {**_summary(keeper), "services": services}

    @app.get("/configuration/{service}")
    async def one(service: str) -> dict[str, object]:
        if service not in SETTINGS:
            raise HTTPException(404, f"no such service; {nearest(service[:64], SETTINGS)}")
        return {**_summary(keeper), "settings": describe(keeper.loaded.effective, service)}

    @app.post("/reload")
    async def reload() -> JSONResponse:
        """Read all layers again; 409 with every problem when they are not good, and the old ones stay."""
        async with reloading:
            good = await asyncio.to_thread(keeper.reload)
        reloads.labels("good" if good else "refused").inc()
        body = {**_summary(keeper), "reloaded": good, "problems": [asdict(each) for each in keeper.problems]}
        return JSONResponse(body, status_code=200 if good else 409)

    async def check() -> Mapping[str, str]:
        return {"files": f"the last reload was refused: {keeper.problems[0].problem}" if keeper.problems else ""}

    # An old configuration that is good serves; that a newer one is not shows as degraded.
    add_face(app, "configuration", check, registry, enough=lambda _found: True)
    return app


def _summary(keeper: Keeper) -> dict[str, object]:
    return {"version": keeper.loaded.version, "loaded_at_s": keeper.loaded.at_s}
