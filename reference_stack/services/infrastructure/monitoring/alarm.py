"""Asks for alerts, and tells of them: in the log, and to a webhook."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import aiohttp

from reference_stack.pace import Pace
from reference_stack.schemas.configuration.monitoring import MonitoringSettings
from reference_stack.services.infrastructure.monitoring.alerting import Grouping, Notification
from reference_stack.services.infrastructure.monitoring.silences import Silences
from reference_stack.services.infrastructure.monitoring.watch import Finding
from reference_stack.services.integration.metrics.port import Firing, Metrics, QueryRefused, Unavailable

log = logging.getLogger(__name__)
_ATTEMPTS = 3
_HOOK_S = 5.0
_DOWN_FOR_S = 60.0


class Alarm:
    """Knows what fires. Without a Prometheus to ask, it calls out itself what the watch sees down for a minute."""

    def __init__(
        self, settings: MonitoringSettings, metrics: Metrics | None, findings: Callable[[], Mapping[str, Finding]]
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._findings = findings
        self._pace = Pace(settings.alert_interval_s)
        self._grouping = Grouping(settings.alert_wait_s, settings.alert_repeat_s)
        self._down_since_s: dict[str, float] = {}
        self.alerts: Sequence[Firing] = ()
        self.silences = Silences(settings.silences_file)
        self.told = 0  # notifications, and those of them that the webhook did not take
        self.failed = 0

    async def run(self) -> None:
        """Look every `alert_interval_s` until cancelled."""
        while True:
            await self.look()
            await self._pace.wait()

    def take(self, settings: MonitoringSettings) -> None:
        """From the next look on look so often, and tell that webhook; what was told stays told."""
        self._settings = settings
        self._grouping.change(settings.alert_wait_s, settings.alert_repeat_s)
        self._pace.change(settings.alert_interval_s)

    async def look(self) -> None:
        """Ask what fires and tell whoever has to know."""
        now_s = time.time()
        self.alerts = await self._ask(now_s)
        for told in self._grouping.step(self.alerts, self.silences.in_force(now_s), now_s):
            self.told += 1
            _log(told)
            if self._settings.webhook is not None:
                self.failed += not await self._call(told)

    async def _ask(self, now_s: float) -> list[Firing]:
        if self._metrics is None:
            return self._seen(now_s)
        try:
            found = await self._metrics.alerts()
        except (Unavailable, QueryRefused) as error:
            since_s = self._down_since_s.setdefault("", now_s)
            labels = {"severity": "critical"}
            away = Firing("PrometheusAway", labels, error.message, since_s, now_s >= since_s + _DOWN_FOR_S)
            return [away, *self._seen(now_s)]
        self._down_since_s.clear()
        return found

    def _seen(self, now_s: float) -> list[Firing]:
        """Return the services that the watch finds down, as the rule ServiceDown would."""
        found = []
        for name, finding in self._findings().items():
            if finding.up or finding.state == "unknown":
                self._down_since_s.pop(name, None)
                continue
            since_s = self._down_since_s.setdefault(name, now_s)
            labels = {"severity": "critical", "service": name}
            summary = f"{name} does not answer its health check"
            found.append(Firing("ServiceDown", labels, summary, since_s, now_s >= since_s + _DOWN_FOR_S))
        return found

    async def _call(self, told: Notification) -> bool:
        body = _body(told)
        for attempt in range(_ATTEMPTS):
            try:
                timeout = aiohttp.ClientTimeout(total=_HOOK_S)
                async with (
                    aiohttp.ClientSession(timeout=timeout) as session,
                    session.post(str(self._settings.webhook), json=body, allow_redirects=False) as reply,
                ):
                    if reply.status < 300:
                        return True
                    reason = f"it answers {reply.status}"
            except (TimeoutError, aiohttp.ClientError, OSError) as error:
                reason = type(error).__name__
            if attempt + 1 < _ATTEMPTS:
                await asyncio.sleep(0.2 * 2**attempt)
        log.error("the webhook was not told of %s: %s", told.group, reason)
        return False


def _log(told: Notification) -> None:
    for alert in told.firing:
        log.warning("alert %s: %s", alert.name, alert.summary, extra={"labels": dict(alert.labels)})
    for alert in told.resolved:
        log.info("over %s: %s", alert.name, alert.summary, extra={"labels": dict(alert.labels)})


def _body(told: Notification) -> dict[str, object]:
    """The shape that Alertmanager's webhook has (version 4), which receivers know."""
    rows = [("firing", each) for each in told.firing] + [("resolved", each) for each in told.resolved]
    return {
        "version": "4",
        "groupKey": told.group,
        "status": told.status,
        "groupLabels": {"alertname": told.group},
        "alerts": [
            {
                "status": status,
                "labels": {"alertname": each.name, **each.labels},
                "annotations": {"summary": each.summary},
                "startsAt": datetime.fromtimestamp(each.since_s, UTC).isoformat(),
            }
            for status, each in rows
        ],
    }
