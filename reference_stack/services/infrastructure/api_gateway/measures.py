"""What the gateway counts. Labels take known values only, whatever clients send."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from reference_stack.services.infrastructure.api_gateway.call import Call

_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)


class Measures:
    """The gateway's metrics, in a registry of their own."""

    def __init__(self, models: Iterable[str]) -> None:
        self.registry = CollectorRegistry()
        self._models = frozenset(models)
        self._requests = Counter(
            "hxp_gateway_requests",
            "Requests by route, model and status.",
            ("route", "model", "status"),
            registry=self.registry,
        )
        self._took = Histogram(
            "hxp_gateway_request_duration_seconds",
            "From the request's head to the end of the answer.",
            ("route", "model"),
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        self._first_byte = Histogram(
            "hxp_gateway_first_byte_seconds",
            "From the request's head to the first byte of the answer.",
            ("route", "model"),
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        # Named as vLLM's own, with a prefix that keeps the two apart: the difference is what the way through here adds.
        self._first_token = Histogram(
            "hxp_gateway_time_to_first_token_seconds",
            "From a stream's request to its first event.",
            ("model_name",),
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        self._tokens = Counter(
            "hxp_gateway_tokens", "Tokens by model and kind.", ("model", "kind"), registry=self.registry
        )
        self._outcomes = Counter(
            "hxp_gateway_outcomes",
            "Accepted requests by model and how they ended.",
            ("model", "outcome"),
            registry=self.registry,
        )
        self.in_flight = Gauge("hxp_gateway_in_flight", "Requests being relayed.", registry=self.registry)
        self.rows_held = Gauge(
            "hxp_gateway_usage_rows_held", "Usage rows that wait for the database.", registry=self.registry
        )
        self.rows_stored = Counter(
            "hxp_gateway_usage_rows_stored", "Usage rows stored in the database.", registry=self.registry
        )
        self.rows_refused = Counter(
            "hxp_gateway_usage_rows_refused", "Usage rows that the database refused.", registry=self.registry
        )
        self._upstream_up = Gauge(
            "hxp_gateway_upstream_up",
            "1 while the model's server is healthy.",
            ("model",),
            registry=self.registry,
            multiprocess_mode="livemin",
        )
        # Looking children up by labels costs several times what counting does.
        self._by_request: dict[tuple[str, str, int], tuple[Counter, Histogram, Histogram]] = {}
        self._by_outcome: dict[tuple[str, str], tuple[Counter, Counter, Counter]] = {}
        self._by_model: dict[str, Histogram] = {}

    def done(self, call: Call, took_s: float) -> None:
        """Count one request that ended."""
        model = call.model if call.model in self._models else ""
        key = (call.route, model, call.status)
        children = self._by_request.get(key)
        if children is None:
            children = self._by_request[key] = (
                self._requests.labels(call.route, model, str(call.status)),
                self._took.labels(call.route, model),
                self._first_byte.labels(call.route, model),
            )
        children[0].inc()
        children[1].observe(took_s)
        if call.first_byte_s is not None:
            children[2].observe(call.first_byte_s)
        if call.outcome is not None:
            self._accepted(call, model, call.outcome)

    def _accepted(self, call: Call, model: str, outcome: str) -> None:
        children = self._by_outcome.get((model, outcome))
        if children is None:
            children = self._by_outcome[model, outcome] = (
                self._outcomes.labels(model, outcome),
                self._tokens.labels(model, "prompt"),
                self._tokens.labels(model, "output"),
            )
        children[0].inc()
        children[1].inc(0 if call.usage is None else call.usage.prompt_tokens)
        children[2].inc(call.output_tokens)
        if call.stream and call.status == 200 and call.first_byte_s is not None:
            first = self._by_model.get(model)
            if first is None:
                first = self._by_model[model] = self._first_token.labels(model)
            first.observe(call.first_byte_s)

    def healthy(self, found: Mapping[str, str]) -> None:
        """Set which models' servers are up."""
        for model, problem in found.items():
            self._upstream_up.labels(model).set(not problem)
