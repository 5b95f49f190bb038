"""The rules that Prometheus evaluates: what is computed beforehand, and what somebody is called for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from reference_stack.catalogue import load_catalogue


@dataclass(frozen=True, slots=True)
class Alert:
    """Somebody is called when `expression` has held for `for_s` seconds; what to do stands in docs/how-to/alerts.md."""

    name: str
    expression: str
    for_s: int
    severity: Literal["critical", "warning"]
    summary: str


def _quantile(quantile: float, histogram: str, by: str) -> str:
    return f"histogram_quantile({quantile:g}, sum by (le, {by}) (rate({histogram}_bucket[5m])))"


_ALL = "sum by (model) (rate(hxp_gateway_requests_total[5m]))"
_FAILED = 'sum by (model) (rate(hxp_gateway_requests_total{status=~"5.."}[5m]))'
# name, as level:metric:operation -> expression
RECORDED = {
    "model:requests:rate5m": "sum by (model_name) (rate(vllm:request_success_total[5m]))",
    "model:e2e_seconds:p95_5m": _quantile(0.95, "vllm:e2e_request_latency_seconds", "model_name"),
    "model:ttft_seconds:p95_5m": _quantile(0.95, "vllm:time_to_first_token_seconds", "model_name"),
    "gateway:requests:rate5m": _ALL,
    "gateway:errors:ratio5m": f"({_FAILED} or 0 * {_ALL}) / ({_ALL} > 0)",
    "gateway:request_seconds:p99_5m": _quantile(0.99, "hxp_gateway_request_duration_seconds", "model"),
}
_ALERTS = (
    Alert(
        "ServiceDown", "hxp_service_up == 0", 60, "critical", "{{ $labels.service }} does not answer its health check"
    ),
    Alert("MetricsMissing", "up == 0", 60, "warning", "Prometheus cannot collect the metrics of {{ $labels.job }}"),
    Alert(
        "UpstreamDown", "hxp_gateway_upstream_up == 0", 60, "critical", "The gateway cannot reach {{ $labels.model }}"
    ),
    Alert(
        "GatewayErrors",
        "gateway:errors:ratio5m > 0.01",
        120,
        "critical",
        "{{ $value | humanizePercentage }} of the requests for {{ $labels.model }} fail",
    ),
    Alert(
        "UsageRowsRefused",
        "increase(hxp_gateway_usage_rows_refused_total[15m]) > 0",
        0,
        "critical",
        "The database refused usage rows: what was used is not billed",
    ),
    Alert("UsageRowsWaiting", "hxp_gateway_usage_rows_held > 1000", 300, "warning", "Usage rows wait for the database"),
    Alert(
        "KvCacheFull",
        "vllm:kv_cache_usage_perc > 0.95",
        300,
        "warning",
        "The KV cache of {{ $labels.model_name }} is full",
    ),
    Alert(
        "Queueing",
        "vllm:num_requests_waiting > 50",
        300,
        "warning",
        "{{ $value }} requests wait for {{ $labels.model_name }}",
    ),
    Alert(
        "ConfigurationRefused", "hxp_configuration_current == 0", 0, "warning", "A changed configuration was refused"
    ),
    Alert(
        "SettingsRefused",
        "hxp_settings_current == 0",
        0,
        "warning",
        "{{ $labels.job }} refused new settings and goes on with the old ones",
    ),
    Alert(
        "DiskNearlyFull",
        "hxp_storage_free_bytes < 5e9",
        300,
        "warning",
        "The disk of {{ $labels.folder }} is nearly full",
    ),
)


def alerts() -> Iterator[Alert]:
    """Yield every alert; a model is slow when its p95 of five minutes is over its target in the catalogue."""
    yield from _ALERTS
    for spec in load_catalogue().values():
        if spec.group == "ai_models" and spec.targets is not None:
            limit_s = spec.targets.latency_ms / 1000
            yield Alert(
                f"ModelSlow_{spec.name}",
                f'model:e2e_seconds:p95_5m{{model_name="{spec.name}"}} > {limit_s:g}',
                300,
                "warning",
                f"{spec.title} takes {{{{ $value | humanizeDuration }}}} at p95, over its target of {limit_s:g} s",
            )


def rules(interval_s: int = 15) -> dict[str, object]:
    """Return the file of rules as Prometheus reads it, evaluated every `interval_s` seconds."""
    called = [
        {
            "alert": alert.name,
            "expr": alert.expression,
            "for": f"{alert.for_s}s",
            "labels": {"severity": alert.severity},
            "annotations": {"summary": alert.summary},
        }
        for alert in alerts()
    ]
    recorded = [{"record": name, "expr": expression} for name, expression in RECORDED.items()]
    groups = [
        {"name": "recorded", "interval": f"{interval_s}s", "rules": recorded},
        {"name": "alerts", "interval": f"{interval_s}s", "rules": called},
    ]
    return {"groups": groups}
