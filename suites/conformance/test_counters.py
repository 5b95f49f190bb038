"""The metrics page: its names and labels, and how an answer moves it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from suites.conformance.wire import CHAT, Answer, Server

pytestmark = pytest.mark.vllm
HISTOGRAMS = (
    "request_prompt_tokens", "request_generation_tokens", "iteration_tokens_total",
    "request_max_num_generation_tokens", "request_params_n", "request_params_max_tokens",
    "time_to_first_token_seconds", "inter_token_latency_seconds", "request_time_per_output_token_seconds",
    "e2e_request_latency_seconds", "request_queue_time_seconds", "request_inference_time_seconds",
    "request_prefill_time_seconds", "request_decode_time_seconds", "request_num_preemptions",
)  # fmt: skip
COUNTERS = (
    "prompt_tokens_total", "generation_tokens_total", "num_preemptions_total", "prefix_cache_queries_total",
    "prefix_cache_hits_total", "prompt_tokens_cached_total", "request_success_total",
)  # fmt: skip
CACHE_LABELS = {
    "_block_size_resolved", "block_size", "cache_dtype", "cache_hit_alignment_tokens",
    "effective_attention_block_size", "enable_mamba_shared_prefix_checkpoint", "enable_prefix_caching", "engine",
    "gpu_memory_utilization", "hash_block_size", "is_attention_free", "kv_cache_dtype_skip_layers",
    "kv_cache_layout", "kv_cache_max_concurrency", "kv_cache_memory_bytes", "kv_cache_size_tokens",
    "kv_offloading_backend", "kv_offloading_size", "kv_sharing_fast_prefill", "mamba_block_size",
    "mamba_cache_dtype", "mamba_cache_mode", "mamba_page_size_padded", "mamba_ssm_cache_dtype", "num_cpu_blocks",
    "num_gpu_blocks", "num_gpu_blocks_override", "prefix_cache_retention_interval", "prefix_caching_hash_algo",
    "prefix_match_unit", "replayssm_buffer_len", "skip_page_size_padded", "sliding_window", "swa_bounded_replay",
    "use_kda_recoverssm", "use_replayssm", "user_specified_block_size",
}  # fmt: skip
GAUGES = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")
REASONS = {"stop", "length", "abort", "error", "repetition"}
# One whole answer: how far each sample moves, by the answer's usage
ONE_ANSWER: dict[str, Callable[[dict[str, int]], int]] = {
    "prompt_tokens_total": lambda use: use["prompt_tokens"],
    "generation_tokens_total": lambda use: use["completion_tokens"],
    "request_success_total": lambda _: 1,
    "request_prompt_tokens_sum": lambda use: use["prompt_tokens"],
    "request_prompt_tokens_count": lambda _: 1,
    "request_generation_tokens_sum": lambda use: use["completion_tokens"],
    "request_generation_tokens_count": lambda _: 1,
    "request_params_max_tokens_sum": lambda _: 9,
    "request_params_n_sum": lambda _: 1,
    "time_to_first_token_seconds_count": lambda _: 1,
    "inter_token_latency_seconds_count": lambda use: use["completion_tokens"] - 1,
    "request_time_per_output_token_seconds_count": lambda _: 1,
    "e2e_request_latency_seconds_count": lambda _: 1,
    "request_queue_time_seconds_count": lambda _: 1,
    "request_num_preemptions_sum": lambda _: 0,
}


def settled(server: Server, answers: int, before: float) -> None:
    """Wait until the page has counted so many answers more: it may lag behind the answer."""
    for _ in range(200):
        if server.metric("vllm:request_success_total") >= before + answers:
            return
    pytest.fail("the page never counted the answer")


def moved(server: Server, **fields: object) -> tuple[Answer, dict[str, float]]:
    """Ask once and return the answer with how far each of vLLM's samples moved, summed over labels."""

    def page() -> dict[str, float]:
        sums: dict[str, float] = {}
        for (name, _), value in server.samples().items():
            sums[name.removeprefix("vllm:")] = sums.get(name.removeprefix("vllm:"), 0.0) + value
        return sums

    before = page()
    answer = server.chat(**fields)
    settled(server, 1, before["request_success_total"])
    after = page()
    return answer, {name: value - before.get(name, 0.0) for name, value in after.items()}


@pytest.mark.parametrize("name", HISTOGRAMS)
def test_a_histogram(server: Server, name: str) -> None:
    """Each histogram is there, labelled with engine and model, and its largest bucket is its count."""
    server.chat(max_tokens=2)
    labels = {"engine": "0", "model_name": server.target.api_model}

    assert server.metric(f"vllm:{name}_bucket", le="+Inf", **labels) == server.metric(f"vllm:{name}_count", **labels)


@pytest.mark.parametrize("name", [*COUNTERS, *GAUGES])
def test_a_counter_or_gauge(server: Server, name: str) -> None:
    """Each counter and gauge is there, labelled with engine and model."""
    assert server.metric(f"vllm:{name}", engine="0", model_name=server.target.api_model) >= 0


def test_the_cache_says_how_it_is_configured(server: Server) -> None:
    """One gauge has the configuration of the KV cache as its labels, and its figures agree with each other."""
    (labels,) = (dict(labels) for name, labels in server.samples() if name == "vllm:cache_config_info")

    assert set(labels) == CACHE_LABELS
    assert int(labels["kv_cache_size_tokens"]) == int(labels["num_gpu_blocks"]) * int(labels["block_size"])


@pytest.mark.parametrize(
    ("path", "handler", "status"),
    [(CHAT, CHAT, "2xx"), ("/v1/nowhere", "none", "4xx"), ("/health", None, "")],
    ids=["chat", "unknown", "not-counted"],
)
def test_http_requests_are_counted(server: Server, path: str, handler: str | None, status: str) -> None:
    """The API server counts answers by route, method and status, with their times and the lengths in their headers."""

    def page() -> dict[str, float]:
        labels = {("handler", handler), ("method", "POST"), ("status", status)}
        found = {"http_requests_total": 0.0, "http_request_size_bytes_sum": 0.0}
        for (name, has), value in server.samples().items():
            if name.startswith("http_") and set(has) <= labels:
                found[name] = found.get(name, 0.0) + value
        return found

    before = page()
    answer = server.chat(max_tokens=2) if path == CHAT else server.post(path, {"a": 1}) if handler else server.get(path)
    after = page()
    by = {name: value - before.get(name, 0.0) for name, value in after.items()}
    assert by["http_requests_total"] == (1 if handler else 0)
    assert by["http_request_duration_highr_seconds_count"] == (1 if handler else 0)
    if handler:
        assert by["http_request_duration_seconds_count"] == by["http_response_size_bytes_count"] == 1
        assert by["http_request_size_bytes_sum"] > 0
        assert by["http_response_size_bytes_sum"] == len(answer.body)


def test_reasons(server: Server) -> None:
    """Answers are counted by the reason why they ended."""
    found = {
        dict(labels)["finished_reason"] for name, labels in server.samples() if name == "vllm:request_success_total"
    }

    assert found == REASONS


@pytest.mark.parametrize("name", ONE_ANSWER)
def test_one_answer_moves(server: Server, name: str) -> None:
    """One answer moves each counter by what its usage says."""
    answer, moves = moved(server, max_tokens=9)

    assert moves[name] == ONE_ANSWER[name](answer.usage)


@pytest.mark.parametrize(("fields", "reason"), [({"ignore_eos": True}, "length"), ({"max_tokens": 500}, "stop")])
def test_the_reason_is_counted(server: Server, fields: dict[str, object], reason: str) -> None:
    """An answer is counted under the reason that it gives."""
    label = {"finished_reason": reason}
    before = server.metric("vllm:request_success_total", **label)
    total = server.metric("vllm:request_success_total")
    answer = server.chat(**fields)
    settled(server, 1, total)

    assert answer.choice()["finish_reason"] == reason
    assert server.metric("vllm:request_success_total", **label) == before + 1


def test_choices_are_requests_of_their_own(server: Server) -> None:
    """N choices are n successes, of one request that had asked for n."""
    total = server.metric("vllm:request_success_total")
    asked = server.metric("vllm:request_params_n_sum")
    server.chat(n=3, temperature=1, seed=1)
    settled(server, 3, total)

    assert server.metric("vllm:request_success_total") == total + 3
    assert server.metric("vllm:request_params_n_sum") == asked + 3


def test_http_answers_are_counted(server: Server) -> None:
    """HTTP answers are counted by route, method and class of status; a refusal is no success of the engine."""
    labels = {"handler": CHAT, "method": "POST"}
    server.chat()
    server.chat(temperature=-1)
    good = server.metric("http_requests_total", status="2xx", **labels)
    bad = server.metric("http_requests_total", status="4xx", **labels)
    total = server.metric("vllm:request_success_total")
    server.chat(temperature=-1)

    assert server.metric("http_requests_total", status="4xx", **labels) == bad + 1
    assert server.metric("http_requests_total", status="2xx", **labels) == good
    assert server.metric("vllm:request_success_total") == total


def test_it_is_prometheus_text(server: Server) -> None:
    """The page calls itself Prometheus text and says when its process started."""
    page = server.get("/metrics")

    assert page.headers["content-type"].startswith("text/plain")
    assert server.metric("process_start_time_seconds") > 1e9
