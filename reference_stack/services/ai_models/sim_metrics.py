"""vLLM's Prometheus metrics of the simulated engine: same names, labels and buckets, moved by the same events."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from reference_stack.services.ai_models.http_metrics import HttpMetrics
from reference_stack.services.ai_models.parser_metrics import ParserMetrics
from reference_stack.services.ai_models.scheduler import S, Scheduler, Sequence, Step

_REQUEST_S = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)
_TTFT_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160)
_TOKEN_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80)
_TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
_ITERATION = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
_OF_SCHEDULER = ("num_preemptions", "prefix_cache_queries", "prefix_cache_hits")
_REJECTIONS = ("max_num_queued_reqs", "max_num_queued_tokens")

# name -> (what it says, buckets)
_HISTOGRAMS = {
    "request_prompt_tokens": ("Number of prefill tokens processed.", _TOKENS),
    "request_generation_tokens": ("Number of generation tokens processed.", _TOKENS),
    "iteration_tokens_total": ("Histogram of number of tokens per engine_step.", _ITERATION),
    "request_max_num_generation_tokens": ("Histogram of maximum number of requested generation tokens.", _TOKENS),
    "request_params_n": ("Histogram of the n request parameter.", (1, 2, 5, 10, 20)),
    "request_params_max_tokens": ("Histogram of the max_tokens request parameter.", _TOKENS),
    "time_to_first_token_seconds": ("Histogram of time to first token in seconds.", (*_TTFT_S, 640, 2560)),
    "inter_token_latency_seconds": ("Histogram of inter-token latency in seconds.", _TOKEN_S),
    "request_time_per_output_token_seconds": ("Histogram of time_per_output_token_seconds per request.", _TOKEN_S),
    "e2e_request_latency_seconds": ("Histogram of e2e request latency in seconds.", _REQUEST_S),
    "request_queue_time_seconds": ("Histogram of time spent in WAITING phase for request.", _REQUEST_S),
    "request_inference_time_seconds": ("Histogram of time spent in RUNNING phase for request.", _REQUEST_S),
    "request_prefill_time_seconds": ("Histogram of time spent in PREFILL phase for request.", _REQUEST_S),
    "request_decode_time_seconds": ("Histogram of time spent in DECODE phase for request.", _REQUEST_S),
    "request_prefill_kv_computed_tokens": (
        "Histogram of new KV tokens computed during prefill (excluding cached tokens).",
        _TOKENS,
    ),
    "request_num_preemptions": ("Histogram of the number of times a request was preempted.", (1, 2, 3, 4, 5, 10, 20)),
}
_COUNTERS = {
    "prompt_tokens": "Number of prefill tokens processed.",
    "generation_tokens": "Number of generation tokens processed.",
    "num_preemptions": "Cumulative number of preemption from the engine.",
    "prefix_cache_queries": "Prefix cache queries, in terms of number of queried tokens.",
    "prefix_cache_hits": "Prefix cache hits, in terms of number of cached tokens.",
    "prompt_tokens_cached": "Number of cached prompt tokens (local + external).",
    # Of what is not simulated: they stay at zero, as without it.
    "external_prefix_cache_queries": "External prefix cache queries, in terms of number of queried tokens.",
    "external_prefix_cache_hits": "External prefix cache hits, in terms of number of cached tokens.",
    "mm_cache_queries": "Multi-modal cache queries, in terms of number of queried items.",
    "mm_cache_hits": "Multi-modal cache hits, in terms of number of cached items.",
    "estimated_flops_per_gpu": "Estimated number of floating point operations per GPU.",
    "estimated_read_bytes_per_gpu": "Estimated number of bytes read from memory per GPU.",
    "estimated_write_bytes_per_gpu": "Estimated number of bytes written to memory per GPU.",
}
_GAUGES = {
    "num_requests_running": "Number of requests in model execution batches.",
    "num_requests_waiting": "Number of requests waiting to be processed.",
    "kv_cache_usage_perc": "KV-cache usage. 1 means 100 percent usage.",
}
# name -> (kind, what it says, label, values of the label)
_LABELLED: dict[str, tuple[type[Counter | Gauge], str, str, tuple[str, ...]]] = {
    "prompt_tokens_by_source": (
        Counter,
        "Number of prompt tokens by source.",
        "source",
        ("local_compute", "local_cache_hit", "external_kv_transfer"),
    ),
    "prompt_tokens_cached_by_source": (
        Counter,
        "Number of cached prompt tokens by where they were.",
        "source",
        ("device", "host", "p2p", "disk", "external_unspecified"),
    ),
    "request_success": (
        Counter,
        "Count of successfully processed requests.",
        "finished_reason",
        ("stop", "length", "abort", "error", "repetition"),
    ),
    "num_requests_waiting_by_reason": (
        Gauge,
        "Number of waiting requests by reason.",
        "reason",
        ("capacity", "deferred"),
    ),
    "engine_sleep_state": (
        Gauge,
        "Engine sleep state; awake = 0 means it sleeps.",
        "sleep_state",
        ("awake", "weights_offloaded", "discard_all"),
    ),
}


@dataclass(frozen=True, slots=True)
class Ended:
    """What is counted of a sequence when it ends: its reason and what its request had asked for."""

    finish_reason: str
    max_tokens: int
    choices: Choices


@dataclass(slots=True)
class Choices:
    """The sequences of one prompt, which count as one request when the last of them ends."""

    n: int
    ended: int = 0
    longest: int = 0

    def end(self, generated: int) -> bool:
        """Take in the end of one; return whether it was the last."""
        self.ended += 1
        self.longest = max(self.longest, generated)
        return self.ended == self.n


class SimMetrics:
    """The registry of one engine. Gauges are read from the scheduler when somebody looks."""

    def __init__(
        self, model: str, scheduler: Scheduler[S], *, generates: bool = True, parses_tools: bool = False
    ) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # its start time tells a restart
        GCCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._scheduler = scheduler
        self._generates = generates  # else the token that ends a prefill is none
        labels = {"engine": "0", "model_name": model}

        def histogram(name: str) -> Histogram:
            text, buckets = _HISTOGRAMS[name]
            return Histogram(f"vllm:{name}", text, labels, buckets=buckets, registry=self.registry).labels(**labels)

        self._histograms = {name: histogram(name) for name in _HISTOGRAMS}
        self._ttft = self._histograms["time_to_first_token_seconds"]
        self._itl = self._histograms["inter_token_latency_seconds"]
        self._counters = {
            name: Counter(f"vllm:{name}", text, labels, registry=self.registry).labels(**labels)
            for name, text in _COUNTERS.items()
        }
        self._gauges = {
            name: Gauge(f"vllm:{name}", text, labels, registry=self.registry).labels(**labels)
            for name, text in _GAUGES.items()
        }
        self._labelled: dict[str, dict[str, Any]] = {}
        for name, (kind, text, label, values) in _LABELLED.items():
            family = kind(f"vllm:{name}", text, [*labels, label], registry=self.registry)
            self._labelled[name] = {value: family.labels(**labels, **{label: value}) for value in values}
        self._labelled["engine_sleep_state"]["awake"].set(1)
        rejections = Counter(
            "vllm:admission_rejections",
            "Number of admission attempts rejected by a queue limit, by reason.",
            ["model_name", "reason"],
            registry=self.registry,
        )
        self._rejections = {reason: rejections.labels(model_name=model, reason=reason) for reason in _REJECTIONS}
        self.parser = ParserMetrics(self.registry, model) if parses_tools else None
        self.http = HttpMetrics(self.registry)
        self._late = Counter(
            "hxp_sim_late_seconds",
            "Time by which the simulation fell behind its own clock because the host was busy.",
            registry=self.registry,
        )
        self._seen = (0, 0, 0)

    def step(self, step: Step[S], served: Collection[Sequence], gaps_s: Iterable[float]) -> None:
        """Count one step; `gaps_s` are the times since the last token of those that had one."""
        tokens = len(served) if self._generates else 0
        if step.prompts:
            self._counters["prompt_tokens"].inc(step.prompts)
            self._counters["prompt_tokens_cached"].inc(step.cached)
            self._labelled["prompt_tokens_cached_by_source"]["device"].inc(step.cached)
            self._labelled["prompt_tokens_by_source"]["local_cache_hit"].inc(step.cached)
            self._labelled["prompt_tokens_by_source"]["local_compute"].inc(step.prompts - step.cached)
        self._counters["generation_tokens"].inc(tokens)
        self._histograms["iteration_tokens_total"].observe(step.prompts - step.cached + tokens)
        for gap_s in gaps_s:
            self._itl.observe(gap_s)
        for sequence in served:
            if sequence.generated == 1 and sequence.first_token_s is not None:
                self._ttft.observe(sequence.first_token_s - sequence.arrival_s)

    def ended(self, sequence: Sequence, request: Ended) -> None:
        """Count a sequence that reached its end."""
        arrival = sequence.arrival_s
        started = sequence.started_s or arrival
        first = sequence.first_token_s or started
        last = sequence.last_token_s or first
        decode_s = last - first
        reason = request.finish_reason  # a call of a tool ends like any other reply
        self._labelled["request_success"]["stop" if reason == "tool_calls" else reason].inc()
        readings = {
            "request_prompt_tokens": sequence.prompt_tokens,
            "request_generation_tokens": sequence.generated,
            "request_params_max_tokens": request.max_tokens,
            "request_time_per_output_token_seconds": decode_s / max(sequence.generated - 1, 1),
            "e2e_request_latency_seconds": last - arrival,
            "request_queue_time_seconds": started - arrival,
            "request_inference_time_seconds": last - started,
            "request_prefill_time_seconds": first - started,
            "request_decode_time_seconds": decode_s,
            "request_prefill_kv_computed_tokens": sequence.prompt_tokens - sequence.cached,
            "request_num_preemptions": sequence.preemptions,
        }
        for name, value in readings.items():
            self._histograms[name].observe(value)
        choices = request.choices
        if choices.end(sequence.generated):
            self._histograms["request_params_n"].observe(choices.n)
            self._histograms["request_max_num_generation_tokens"].observe(choices.longest)

    def rejected(self) -> None:
        self._rejections["max_num_queued_reqs"].inc()

    def configured(self, labels: Mapping[str, str]) -> None:
        """Say how the KV cache is configured, see cache_config.py."""
        text = "Information of the LLMEngine CacheConfig"
        Gauge("vllm:cache_config_info", text, labels, registry=self.registry).labels(**labels).set(1)

    def late(self, seconds: float) -> None:
        self._late.inc(seconds)

    def render(self, queued: int) -> bytes:
        """Return the page; `queued` requests have arrived but are not yet in the scheduler's queue."""
        scheduler = self._scheduler
        self._gauges["num_requests_running"].set(len(scheduler.running))
        waiting = len(scheduler.waiting) + queued
        self._gauges["num_requests_waiting"].set(waiting)
        self._labelled["num_requests_waiting_by_reason"]["capacity"].set(waiting)
        self._gauges["kv_cache_usage_perc"].set(scheduler.kv_usage)
        seen = (scheduler.preemptions, scheduler.cache_queries, scheduler.cache_hits)
        for name, before, now in zip(_OF_SCHEDULER, self._seen, seen, strict=True):
            self._counters[name].inc(now - before)
        self._seen = seen
        return generate_latest(self.registry)
