"""What the watch found, as metrics: a service that was not asked yet has none, and so raises no alarm."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from reference_stack.services.infrastructure.monitoring.watch import Finding


class Health(Collector):
    """One line a service that was asked; `findings` gives what is known when somebody looks."""

    def __init__(self, findings: Callable[[], Mapping[str, Finding]]) -> None:
        self._findings = findings

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("hxp_service_up", "1 while the service's /health answers 200.", labels=["service"])
        took = GaugeMetricFamily(
            "hxp_service_health_seconds", "How long /health took to answer last.", labels=["service"]
        )
        for name, found in self._findings().items():
            if found.state != "unknown":
                up.add_metric([name], float(found.up))
                took.add_metric([name], found.took_s or 0.0)
        yield from (up, took)
