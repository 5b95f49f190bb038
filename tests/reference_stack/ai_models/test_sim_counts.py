"""What the simulated engine counts: metrics as tokens move, and what prompts find in the prefix cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hxp_harness.load.prompts import prompt


def test_metrics_move_as_tokens_do(start: Any) -> None:
    """Counters and histograms agree with the usage of the requests that were served."""
    sim = start("phi3", device="ideal")
    usages = [sim.chat("one two three", max_tokens=7, ignore_eos=True).json["usage"] for _ in range(3)]
    sim.chat(max_tokens=0)

    assert sim.metric("vllm:prompt_tokens_total") == sum(usage["prompt_tokens"] for usage in usages)
    assert sim.metric("vllm:generation_tokens_total") == 21
    assert sim.metric("vllm:request_success_total", finished_reason="length", model_name="phi3") == 3
    assert sim.metric("vllm:time_to_first_token_seconds_count") == 3
    assert sim.metric("vllm:inter_token_latency_seconds_count") == 18
    assert sim.metric("vllm:request_generation_tokens_sum") == 21
    assert sim.metric("vllm:request_params_n_count") == 3
    assert sim.chat(max_tokens=2, n=4, temperature=1).status == 200
    assert sim.metric("vllm:request_params_n_sum") == 3 + 4
    assert sim.metric("vllm:num_requests_running") == 0
    assert sim.metric("vllm:kv_cache_usage_perc") == 0
    assert sim.metric("http_requests_total", handler="/v1/chat/completions", status="4xx") == 1


# What vLLM's scrape has and the simulation has not.
UNMEASURED = ("vllm:estimated_",)  # the work of its own kernels; ours is in the physics


def test_metric_names_are_those_of_vllm(start: Any) -> None:
    """Every sample of a recorded scrape is there under its name and labels, and nothing else is called vllm:."""
    recorded = json.loads(Path(__file__).with_name("data").joinpath("vllm-0.32-metrics.json").read_text("utf-8"))
    # Started as the recorded server was, with a parser of tool calls.
    page = start("hermes", device="ideal", enable_auto_tool_choice=True).request("GET", "/metrics").body.decode()
    lines = [line for line in page.splitlines() if line.startswith("vllm:") and "_created" not in line]

    assert len(recorded) > 80
    for sample in recorded:
        if not sample["name"].startswith(UNMEASURED):
            wanted = [sample["name"], *(f'{key}="{value}"' for key, value in sample["labels"].items())]
            assert any(all(part in line for part in wanted) for line in lines), wanted
    names = {sample["name"] for sample in recorded} | {"vllm:cache_config_info"}
    assert {line.split("{")[0] for line in lines} <= names
    assert 'vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001",model_name="hermes"}' in page


WORDS = "one two three four five six seven eight nine ten " * 8


def test_an_equal_prompt_is_found_in_the_cache(start: Any) -> None:
    """The second request computes only its end, and says so where that is asked for, streamed or whole."""
    sim = start("phi3", device="ideal", enable_prompt_tokens_details=True)
    first = sim.complete(WORDS, max_tokens=2).json["usage"]
    again = sim.complete(WORDS, max_tokens=2, n=2, temperature=1).json["usage"]
    streamed = sim.complete(WORDS, max_tokens=2, stream=True, stream_options={"include_usage": True}).events[-1][
        "usage"
    ]
    salted = sim.complete(WORDS, max_tokens=2, cache_salt="another tenant").json["usage"]

    assert first["prompt_tokens"] == 1 + 81
    assert first["prompt_tokens_details"]["cached_tokens"] == salted["prompt_tokens_details"]["cached_tokens"] == 0
    assert again["prompt_tokens_details"]["cached_tokens"] == 80
    assert streamed["prompt_tokens_details"] == {"cached_tokens": 80}
    assert sim.metric("vllm:prefix_cache_queries_total") == 5 * 82
    assert sim.metric("vllm:prefix_cache_hits_total") == 3 * 80
    assert sim.metric("vllm:prompt_tokens_cached_total") == 3 * 80
    assert sim.metric("vllm:prompt_tokens_by_source_total", source="local_compute") == 5 * 82 - 3 * 80
    assert sim.metric("vllm:request_prefill_kv_computed_tokens_sum") == 5 * 82 - 3 * 80
    assert sim.metric("vllm:prompt_tokens_total") == 5 * 82


def test_a_chat_tells_what_it_put_into_the_cache(start: Any) -> None:
    """The first time all full blocks of the prompt are new, the second time none is."""
    sim = start("hermes", device="ideal", enable_prompt_tokens_details=True)
    first, again = (sim.chat(WORDS, max_tokens=1).json["usage"] for _ in range(2))
    blocks = first["prompt_tokens"] // 16 * 16

    told = {"multimodal_tokens": None}
    assert first["prompt_tokens_details"] == {"cached_tokens": 0, "created_cache_tokens": blocks, **told}
    assert again["prompt_tokens_details"] == {"cached_tokens": blocks, "created_cache_tokens": 0, **told}


def test_the_next_turn_of_a_conversation_finds_the_one_before(start: Any) -> None:
    """A chat that goes on begins with the tokens of its first turn, the reply included."""
    sim = start("hermes", device="ideal", enable_prompt_tokens_details=True)
    first = sim.chat(WORDS, max_tokens=40, ignore_eos=True).json
    said = [
        {"role": "user", "content": WORDS},
        {"role": "assistant", "content": first["choices"][0]["message"]["content"]},
        {"role": "user", "content": "Go on."},
    ]
    usage = sim.request("POST", "/v1/chat/completions", {"messages": said, "max_tokens": 1}).json["usage"]

    turn = first["usage"]["total_tokens"] - 1  # the last token was never put back in
    assert usage["prompt_tokens_details"]["cached_tokens"] == turn // 16 * 16


def test_without_a_prefix_cache_nothing_is_found(start: Any) -> None:
    """The cache can be switched off, and does not say then that it was on, nor that tokens were cached."""
    sim = start("phi3", device="ideal", enable_prefix_caching=False, enable_prompt_tokens_details=True)
    usages = [sim.complete(WORDS, max_tokens=2).json["usage"] for _ in range(2)]

    assert usages[0] == usages[1]
    assert sim.metric("vllm:prefix_cache_queries_total") == 0
    assert sim.metric("vllm:cache_config_info", enable_prefix_caching="False") == 1


def test_cold_prompts_of_a_profile_find_nothing(start: Any) -> None:
    """The prompts that the harness sends under `cache: cold` share no block, so that the contract is true here."""
    sim = start("mixtral", device="ideal")
    for seed in range(60):
        assert sim.chat(prompt(seed, 120), max_tokens=1).status == 200

    assert sim.metric("vllm:prefix_cache_queries_total") > 60 * 120
    assert sim.metric("vllm:prefix_cache_hits_total") == 0
