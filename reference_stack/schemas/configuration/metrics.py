"""Settings of the metrics service."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, SecretStr

from reference_stack.schemas.configuration.base import Secret, ServiceSettings


class MetricsSettings(ServiceSettings):
    """Where Prometheus (and Grafana, if there is one) is.

    The dashboards are put into Grafana when the service starts, and when it is told to. Prometheus collects every
    service's metrics each `collection_interval_s` seconds. `absent` says why there is no Prometheus to speak to; the
    service then serves its own metrics only and says so.
    """

    IN_FLIGHT: ClassVar = frozenset(
        {"prometheus_host", "prometheus_port", "grafana_host", "grafana_port", "grafana_token", "timeout_s"}
    )
    backend: Literal["embedded", "external", "mock"] = "embedded"
    prometheus_host: str = "127.0.0.1"
    prometheus_port: int = Field(default=9090, gt=0, lt=65536)
    grafana_host: str = ""
    grafana_port: int = Field(default=3000, gt=0, lt=65536)
    grafana_token: Secret = SecretStr("")
    collection_interval_s: int = Field(default=15, gt=0, le=3600)
    timeout_s: float = Field(default=2.0, gt=0)
    absent: str = ""

    @property
    def prometheus_url(self) -> str:
        return f"http://{self.prometheus_host}:{self.prometheus_port}"

    @property
    def grafana_url(self) -> str:
        return f"http://{self.grafana_host}:{self.grafana_port}"
