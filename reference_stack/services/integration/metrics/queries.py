"""What is asked of Prometheus, by name: the panels of the dashboards, the previews and the reports ask nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Unit = Literal["requests/s", "tokens/s", "seconds", "ratio", "bytes", "count", "cores", "up"]
# Grafana's own word for a window that holds at least four scrapes, and the variable of the dashboard "model".
_WINDOW, _MODEL = "$__rate_interval", "$model"


@dataclass(frozen=True, slots=True)
class Query:
    """One question: what it shows, in which unit, its PromQL, and the legend of a series in Grafana's template."""

    name: str
    title: str
    unit: Unit
    expression: str
    legend: str

    def over(self, window: str, model: str = ".*") -> str:
        """Return the PromQL with rates over `window` ("1m") and models that match `model`."""
        return self.expression.replace(_WINDOW, window).replace(_MODEL, model)


def _quantile(quantile: float, histogram: str, by: str, only: str = "") -> str:
    return f"histogram_quantile({quantile:g}, sum by (le, {by}) (rate({histogram}_bucket{only}[{_WINDOW}])))"


def _rate(counter: str, by: str, only: str = "") -> str:
    return f"sum by ({by}) (rate({counter}{only}[{_WINDOW}]))"


_ONE = f'{{model_name=~"{_MODEL}"}}'
_PER_MODEL = "{{model_name}}"
_KNOWN = '{model!=""}'  # health checks and refused requests have no model
_OVERVIEW = (
    Query("services_up", "Services that are up", "count", "sum(hxp_service_up)", "up"),
    Query("service_up", "Health of each service", "up", "hxp_service_up", "{{service}}"),
    Query("health_time", "How long /health takes", "seconds", "hxp_service_health_seconds", "{{service}}"),
    Query("requests", "Requests", "requests/s", _rate("hxp_gateway_requests_total", "model", _KNOWN), "{{model}}"),
    Query("process_cpu", "Cores in use", "cores", _rate("hxp_process_cpu_seconds_total", "service"), "{{service}}"),
    Query("process_memory", "Memory in use", "bytes", "hxp_process_resident_bytes", "{{service}}"),
)
_MODELS = (
    Query(
        "model_requests",
        "Requests that ended",
        "requests/s",
        _rate("vllm:request_success_total", "model_name", _ONE),
        _PER_MODEL,
    ),
    Query("model_tokens", "Output", "tokens/s", _rate("vllm:generation_tokens_total", "model_name", _ONE), _PER_MODEL),
    Query(
        "ttft_p95",
        "Time to first token, p95",
        "seconds",
        _quantile(0.95, "vllm:time_to_first_token_seconds", "model_name", _ONE),
        _PER_MODEL,
    ),
    Query(
        "itl_p95",
        "Between tokens, p95",
        "seconds",
        _quantile(0.95, "vllm:inter_token_latency_seconds", "model_name", _ONE),
        _PER_MODEL,
    ),
    Query(
        "e2e_p95",
        "End to end, p95",
        "seconds",
        _quantile(0.95, "vllm:e2e_request_latency_seconds", "model_name", _ONE),
        _PER_MODEL,
    ),
    Query("running", "Requests in the batch", "count", f"vllm:num_requests_running{_ONE}", _PER_MODEL),
    Query("waiting", "Requests that wait", "count", f"vllm:num_requests_waiting{_ONE}", _PER_MODEL),
    Query("kv_cache", "KV cache in use", "ratio", f"vllm:kv_cache_usage_perc{_ONE}", _PER_MODEL),
)
_GATEWAY = (
    Query(
        "gateway_requests",
        "Requests by status",
        "requests/s",
        _rate("hxp_gateway_requests_total", "status"),
        "{{status}}",
    ),
    Query(
        "gateway_p50",
        "Whole answer, p50",
        "seconds",
        _quantile(0.5, "hxp_gateway_request_duration_seconds", "model", _KNOWN),
        "{{model}}",
    ),
    Query(
        "gateway_p99",
        "Whole answer, p99",
        "seconds",
        _quantile(0.99, "hxp_gateway_request_duration_seconds", "model", _KNOWN),
        "{{model}}",
    ),
    Query(
        "gateway_first_byte",
        "First byte, p95",
        "seconds",
        _quantile(0.95, "hxp_gateway_first_byte_seconds", "model", _KNOWN),
        "{{model}}",
    ),
    Query("gateway_tokens", "Tokens", "tokens/s", _rate("hxp_gateway_tokens_total", "kind"), "{{kind}}"),
    Query("in_flight", "Requests in flight", "count", "hxp_gateway_in_flight", "in flight"),
    Query("usage_rows", "Usage rows that wait", "count", "hxp_gateway_usage_rows_held", "rows"),
    Query("upstreams", "Model servers that are up", "up", "hxp_gateway_upstream_up", "{{model}}"),
)
_RUN = (
    Query("run_rate", "Served rate", "requests/s", _rate("vllm:request_success_total", "model_name"), _PER_MODEL),
    Query(
        "run_e2e",
        "End to end at the server, p95",
        "seconds",
        _quantile(0.95, "vllm:e2e_request_latency_seconds", "model_name"),
        _PER_MODEL,
    ),
    Query(
        "run_queue",
        "Time in the queue, p95",
        "seconds",
        _quantile(0.95, "vllm:request_queue_time_seconds", "model_name"),
        _PER_MODEL,
    ),
    Query(
        "run_preemptions", "Preemptions", "requests/s", _rate("vllm:num_preemptions_total", "model_name"), _PER_MODEL
    ),
    Query("run_cpu", "Cores in use", "cores", _rate("hxp_process_cpu_seconds_total", "service"), "{{service}}"),
    Query("run_scrape", "Time that a scrape takes", "seconds", "scrape_duration_seconds", "{{job}}"),
)
# dashboard -> its panels, left to right and down
BOARDS: Mapping[str, tuple[Query, ...]] = {"overview": _OVERVIEW, "model": _MODELS, "gateway": _GATEWAY, "run": _RUN}
QUERIES: Mapping[str, Query] = {query.name: query for board in BOARDS.values() for query in board}
