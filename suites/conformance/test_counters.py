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
