"""The monitoring service: one page, one JSON document and metrics that say how all services are; and the alarm."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse
from prometheus_client import CollectorRegistry, Gauge
from pydantic import Field

from reference_stack.catalogue import load_catalogue
from reference_stack.face import add_face
from reference_stack.schemas.configuration.base import Settings
from reference_stack.schemas.configuration.metrics import MetricsSettings
from reference_stack.schemas.configuration.monitoring import MonitoringSettings
from reference_stack.services.infrastructure.monitoring.alarm import Alarm
from reference_stack.services.infrastructure.monitoring.measures import Health
from reference_stack.services.infrastructure.monitoring.page import POLICY, render
from reference_stack.services.infrastructure.monitoring.processes import Processes
from reference_stack.services.infrastructure.monitoring.silences import NotKept
from reference_stack.services.infrastructure.monitoring.watch import Finding, Watch
from reference_stack.services.integration.metrics.client import PrometheusMetrics
from reference_stack.services.integration.metrics.port import Metrics


class SilenceAsked(Settings):
    """Labels that an alert must have (`alertname` is one of them), for how many seconds, and why."""

    matchers: dict[str, str] = Field(min_length=1)
    for_s: float = Field(gt=0, le=30 * 86_400)
    comment: str = Field(default="", max_length=1000)


def connect(settings: MonitoringSettings) -> Metrics | None:
    """Return the Prometheus that evaluates the rules, None where there is none."""
    if settings.prometheus_url is None:
        return None
    url = settings.prometheus_url
    said = MetricsSettings(prometheus_host=url.host or "", prometheus_port=url.port or 9090, timeout_s=5)
    return PrometheusMetrics(said)


def create_app(settings: MonitoringSettings, *, metrics: Metrics | None = None) -> FastAPI:
    """Return the service; it looks at the others from its start on."""
    watch = Watch(settings)
    asked = connect(settings) if metrics is None else metrics
    alarm = Alarm(settings, asked, lambda: watch.findings)
    registry = CollectorRegistry()
    registry.register(Health(lambda: watch.findings))
    if settings.state_file is not None:
        registry.register(Processes(settings.state_file))
    _measure(registry, alarm)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await watch.start()
        tasks = [asyncio.ensure_future(watch.run()), asyncio.ensure_future(alarm.run())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            await watch.close()
            if asked is not None:
                await asked.close()

    app = FastAPI(title="Monitoring", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/status")
    async def status() -> dict[str, object]:
        """What is known of every service, from the last look."""
        return _status(watch.findings, alarm)

    @app.post("/check")
    async def check() -> dict[str, object]:
        """Look now, and say what was found."""
        await watch.look()
        return _status(watch.findings, alarm)

    @app.get("/alerts")
    async def alerts() -> Mapping[str, object]:
        """What fires or waits for its time, and what is silenced."""
        return _alerts(alarm)

    @app.exception_handler(NotKept)
    async def not_kept(_request: Request, error: NotKept) -> JSONResponse:
        return JSONResponse({"detail": error.message}, status_code=503, headers={"Retry-After": "1"})

    @app.post("/silences")
    async def silence(wanted: SilenceAsked) -> dict[str, object]:
        """Tell nobody of some alerts for a while; it is on the disk when this is answered."""
        return asdict(alarm.silences.add(wanted.matchers, wanted.for_s, wanted.comment))

    @app.delete("/silences/{silence_id}")
    async def speak(silence_id: str) -> Mapping[str, object]:
        if not alarm.silences.lift(silence_id):
            raise HTTPException(404, "there is no such silence")
        return _alerts(alarm)

    @app.get("/", response_class=HTMLResponse)
    async def show() -> HTMLResponse:
        html = render(_rows(watch.findings), _alerts(alarm)["alerts"], interval_s, time.time())
        return HTMLResponse(html, headers={"Content-Security-Policy": POLICY, "Cache-Control": "no-store"})

    async def itself() -> Mapping[str, str]:
        return {}

    interval_s = settings.interval_s

    async def take(new: MonitoringSettings) -> None:
        nonlocal interval_s
        watch.take(new)
        alarm.take(new)
        interval_s = new.interval_s

    app.state.take = take

    add_face(app, "monitoring", itself, registry)
    return app


def _measure(registry: CollectorRegistry, alarm: Alarm) -> None:
    firing = Gauge("hxp_alerts_firing", "Alerts that fire, silenced ones included.", registry=registry)
    firing.set_function(lambda: float(sum(each.firing for each in alarm.alerts)))
    silences = Gauge("hxp_alert_silences", "Silences in force.", registry=registry)
    silences.set_function(lambda: float(len(alarm.silences.in_force(time.time()))))
    failed = Gauge("hxp_alert_notifications_failed", "Notifications that the webhook did not take.", registry=registry)
    failed.set_function(lambda: float(alarm.failed))


def _rows(findings: Mapping[str, Finding]) -> list[Finding]:
    """Return the twelve in the catalogue's order, watched or not, then whatever else is watched."""
    names = [*load_catalogue(), *(name for name in findings if name not in load_catalogue())]
    return [findings.get(name, Finding(name, problem="not watched")) for name in names]


def _status(findings: Mapping[str, Finding], alarm: Alarm) -> dict[str, object]:
    rows = _rows(findings)
    return {
        "all_up": all(row.up for row in rows),
        "up": sum(row.up for row in rows),
        "of": len(rows),
        "services": [{**asdict(row), "up": row.up} for row in rows],
        **_alerts(alarm),
    }


def _alerts(alarm: Alarm) -> Mapping[str, list[dict[str, object]]]:
    now_s = time.time()
    silences = alarm.silences.in_force(now_s)
    rows = [{**asdict(each), "silenced": any(one.covers(each, now_s) for one in silences)} for each in alarm.alerts]
    return {"alerts": rows, "silences": [asdict(one) for one in silences]}
