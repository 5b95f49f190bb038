"""Settings of the monitoring service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field, HttpUrl

from reference_stack.schemas.configuration.base import ServiceSettings

_Seconds = Annotated[float, Field(gt=0, le=3600)]


class MonitoringSettings(ServiceSettings):
    """Which services are watched, by name and the URL of their /health, and how often.

    Every `interval_s` each is asked, and counts as down when it has not answered within `deadline_s`. `state_file` is
    that of the stack, for what its processes take of the machine.

    Alerts are those of the Prometheus at `prometheus_url`, asked every `alert_interval_s`. They go to the log and to
    `webhook`: a new group after `alert_wait_s`, one that goes on again every `alert_repeat_s`. Silences are kept in
    `silences_file`; without one a restart forgets them.
    """

    IN_FLIGHT: ClassVar = frozenset(
        {"services", "interval_s", "deadline_s", "webhook", "alert_interval_s", "alert_wait_s", "alert_repeat_s"}
    )
    services: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")], HttpUrl] = Field(default_factory=dict)
    interval_s: _Seconds = 30.0
    deadline_s: _Seconds = 30.0
    state_file: Path | None = None
    prometheus_url: HttpUrl | None = None
    webhook: HttpUrl | None = None
    silences_file: Path | None = None
    alert_interval_s: _Seconds = 15.0
    alert_wait_s: float = Field(default=10.0, ge=0, le=3600)
    alert_repeat_s: float = Field(default=14_400.0, gt=0, le=7 * 86_400)
