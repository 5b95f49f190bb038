"""The monitoring service: one page, one JSON document and one metric that say how all services are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import jinja2
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from prometheus_client import CollectorRegistry

from reference_stack.catalogue import load_catalogue
from reference_stack.face import add_face
from reference_stack.schemas.configuration.monitoring import MonitoringSettings
from reference_stack.services.infrastructure.monitoring.measures import Health
from reference_stack.services.infrastructure.monitoring.processes import Processes
from reference_stack.services.infrastructure.monitoring.watch import Finding, Watch

_PAGE = Path(__file__).with_name("status.html.jinja")
# The page is plain HTML of its own style sheet: nothing else may be loaded or run, whatever a service says of itself.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def create_app(settings: MonitoringSettings) -> FastAPI:
    """Return the service; it looks at the others from its start on."""
    watch = Watch(settings)
    registry = CollectorRegistry()
    registry.register(Health(lambda: watch.findings))
    if settings.state_file is not None:
        registry.register(Processes(settings.state_file))
    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
        _PAGE.read_text(encoding="utf-8")
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await watch.start()
        looking = asyncio.ensure_future(watch.run())
        try:
            yield
        finally:
            looking.cancel()
            with suppress(asyncio.CancelledError):
                await looking
            await watch.close()

    app = FastAPI(title="Monitoring", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/status")
    async def status() -> dict[str, object]:
        """What is known of every service, from the last look."""
        return _status(watch.findings)

    @app.post("/check")
    async def check() -> dict[str, object]:
        """Look now, and say what was found."""
        await watch.look()
        return _status(watch.findings)

    @app.get("/", response_class=HTMLResponse)
    async def show() -> HTMLResponse:
        rows = _rows(watch.findings)
        html = page.render(
            rows=rows, refresh_s=max(5, round(settings.interval_s)), now_s=time.time(), all_up=_all_up(rows)
        )
        return HTMLResponse(html, headers={"Content-Security-Policy": _POLICY, "Cache-Control": "no-store"})

    async def itself() -> Mapping[str, str]:
        return {}

    add_face(app, "monitoring", itself, registry)
    return app


def _rows(findings: Mapping[str, Finding]) -> list[Finding]:
    """Return the twelve in the catalogue's order, watched or not, then whatever else is watched."""
    names = [*load_catalogue(), *(name for name in findings if name not in load_catalogue())]
    return [findings.get(name, Finding(name, problem="not watched")) for name in names]


def _all_up(rows: list[Finding]) -> bool:
    return all(row.up for row in rows)


def _status(findings: Mapping[str, Finding]) -> dict[str, object]:
    rows = _rows(findings)
    return {
        "all_up": _all_up(rows),
        "up": sum(row.up for row in rows),
        "of": len(rows),
        "services": [{**asdict(row), "up": row.up} for row in rows],
    }
