"""The simulated engine over HTTP: streams, counts, limits, keys, disconnects and metrics."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hxp_harness.load.prompts import prompt
from reference_stack.errors import SettingsError
from reference_stack.schemas.configuration.model import ModelSettings
from reference_stack.services.ai_models.sim_server import create_app


def texts(events: list[Any]) -> list[str]:
    return [event["choices"][0]["delta"]["content"] for event in events if event["choices"]]


def test_a_stream_is_role_tokens_usage_done(ideal: Any) -> None:
    """The role has an event of its own, then each token has one, the last says why, then the usage."""
    options = {"include_usage": True, "continuous_usage_stats": True}
    answer = ideal.chat(stream=True, max_tokens=5, ignore_eos=True, stream_options=options)
    role, *tokens, usage = answer.events

    assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert len(tokens) == 5
    assert all(token["choices"][0]["delta"]["content"] for token in tokens)
    assert [token["usage"]["completion_tokens"] for token in tokens] == [1, 2, 3, 4, 5]
    assert [token["choices"][0]["finish_reason"] for token in tokens] == [None] * 4 + ["length"]
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 5
    assert usage["usage"]["total_tokens"] == usage["usage"]["prompt_tokens"] + 5
    assert usage["system_fingerprint"].startswith("sim-")
    assert answer.headers["x-simulated"] == "no device: steps take no time"


def test_streamed_and_whole_say_the_same(ideal: Any) -> None:
    """The same request gets the same text with and without streaming."""
    whole = ideal.chat("What is a queue?", max_tokens=200)
    streamed = ideal.chat("What is a queue?", max_tokens=200, stream=True)

    assert whole.json["choices"][0]["finish_reason"] == "stop"
    assert "".join(texts(streamed.events)) == whole.json["choices"][0]["message"]["content"]


def test_text_completion_streams(ideal: Any) -> None:
    """A text completion streams without a role, its echo in front; usage counts its prompt."""
    options = {"include_usage": True, "continuous_usage_stats": True}
    answer = ideal.complete("Hello world", stream=True, max_tokens=3, echo=True, stream_options=options)
    *tokens, usage = answer.events

    assert len(tokens) == 3
    assert tokens[0]["choices"][0]["text"].startswith("Hello world")
    assert tokens[0]["usage"] == {"prompt_tokens": 3, "total_tokens": 4, "completion_tokens": 1}
    assert usage["usage"]["prompt_tokens"] == 3


def test_several_choices_and_prompts(ideal: Any) -> None:
    """N and lists of prompts make choices in order, which differ where the temperature lets them."""
    two = ideal.chat(n=2, temperature=1, seed=7, max_tokens=6)
    again = ideal.chat(n=2, temperature=1, seed=7, max_tokens=6)
    lists = ideal.complete(["Hello", "World"], n=2, temperature=1, max_tokens=2)
    numbers = ideal.complete([[1, 2, 3], [4]], max_tokens=2)

    contents = [choice["message"]["content"] for choice in two.json["choices"]]
    assert contents == [choice["message"]["content"] for choice in again.json["choices"]]
    assert contents[0] != contents[1]
    assert [choice["index"] for choice in lists.json["choices"]] == [0, 1, 2, 3]
    assert lists.json["usage"]["prompt_tokens"] == 4
    assert numbers.json["usage"]["prompt_tokens"] == 4


def test_streamed_choices_carry_their_index(ideal: Any) -> None:
    """With n = 2 each event says to which choice it belongs, and both end."""
    answer = ideal.chat(n=2, temperature=1, stream=True, max_tokens=3, ignore_eos=True)
    ends = [e["choices"][0]["index"] for e in answer.events if e["choices"][0]["finish_reason"]]

    assert sorted(ends) == [0, 1]


def test_messages_may_be_lists_of_text_parts(ideal: Any) -> None:
    """Text parts count as their text; anything else is refused."""
    parts = [{"role": "user", "content": [{"type": "text", "text": "Say hi"}]}]
    picture = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]

    answer = ideal.request("POST", "/v1/chat/completions", {"messages": parts, "max_tokens": 1})
    refused = ideal.request("POST", "/v1/chat/completions", {"messages": picture})
    assert answer.json["usage"]["prompt_tokens"] == ideal.chat(max_tokens=1).json["usage"]["prompt_tokens"]
    assert refused.status == 400
    assert "text parts" in refused.error["message"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"temperature": float("nan")}, "temperature must be a finite number"),
        ({"min_tokens": -1}, "min_tokens must be greater than"),
        ({"structured_outputs": {"grammar": "root ::= x"}}, "does not support structured_outputs.grammar"),
        ({"structured_outputs": {"regex": r"(a)\1"}}, "does not support groupref in a regex"),
        ({"structured_outputs": {"json": {"not": {}}}}, "does not support 'not' in a JSON schema"),
        ({"temperature": 0, "n": 2}, "n must be 1 when using greedy sampling"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"frequency_penalty": -3}, "frequency_penalty must be in"),
    ],
)
def test_what_cannot_be_served_is_refused(ideal: Any, fields: dict[str, object], message: str) -> None:
    """Values out of range, and features that the simulation lacks, are a 400 that names them."""
    answer = ideal.chat(**fields)

    assert answer.status == 400
    assert message in answer.error["message"]


@pytest.mark.parametrize(
    "raw",
    [b"{", b"\xff\xfe", b'{"messages": ["\\ud800"]}', b"NaN", b'{"messages": NaN}', b'"text"'],
    ids=["cut", "not UTF-8", "surrogate", "NaN", "NaN inside", "string"],
)
def test_bad_bodies_are_400(ideal: Any, raw: bytes) -> None:
    """No body, however broken, is a 500."""
    answer = ideal.request("POST", "/v1/chat/completions", raw)

    assert answer.status == 400
    assert answer.error["code"] == 400


@pytest.mark.parametrize("raw", [b'"\xff"', b"[" * 100_000, b"1" * 5000], ids=["not UTF-8", "deep", "digits"])
def test_bodies_that_no_parser_takes(ideal: Any, raw: bytes) -> None:
    """What JSON's parser gives up on is a 400 with FastAPI's own body, as from vLLM."""
    answer = ideal.request("POST", "/v1/chat/completions", raw)

    assert (answer.status, answer.json) == (400, {"detail": "There was an error parsing the body"})


@pytest.mark.parametrize("path", ["/v1/completions/", "/health/", "/v1/models/"])
def test_a_slash_too_many_is_led_to_the_page(ideal: Any, path: str) -> None:
    """A known path with a slash at its end is 307 to the page itself."""
    answer = ideal.request("GET", path)

    assert answer.status == 307
    assert answer.headers["location"] == f"http://127.0.0.1:{ideal.port}{path[:-1]}"


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("/v1/chat/completions", {"messages": 7}, None),
        ("/v1/chat/completions", {"tool_choice": "x", "tools": [{"function": {"name": "f"}}]}, "tool_choice"),
        ("/v1/chat/completions", {"tool_choice": {"x": 1}, "tools": []}, "tools"),
        ("/v1/chat/completions", {"tool_choice": {"x": 1}, "tools": [7]}, "tool_choice.function"),
        ("/v1/chat/completions", {"tool_choice": {"function": {}}, "tools": [7]}, "tool_choice.function.name"),
        ("/v1/chat/completions", {"logprobs": True, "top_logprobs": "2"}, "top_logprobs"),
        ("/v1/chat/completions", {"logprobs": True, "top_logprobs": -2}, "top_logprobs"),
        ("/v1/chat/completions", {"stream": True, "prompt_logprobs": 1}, "prompt_logprobs"),
        ("/v1/chat/completions", {"cache_salt": 7}, "cache_salt"),
        ("/v1/chat/completions", {"cache_salt": "a/b"}, "cache_salt"),
        ("/v1/chat/completions", {"cache_salt": "\ud800"}, "body.cache_salt"),
        ("/v1/chat/completions", {"max_completion_tokens": 10**9}, "max_completion_tokens"),
        ("/v1/chat/completions", {"model": "\ud800"}, None),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "\ud800"}]}, None),
        ("/v1/completions", {"logprobs": "2"}, "logprobs"),
        ("/v1/completions", {"prompt": "\ud800"}, None),
        ("/v1/completions", {"prompt": [-1]}, "body.prompt.0"),
        ("/v1/completions", {"n": None}, "body.n"),
        ("/v1/completions", {"seed": 2**63}, "body.seed"),
        ("/v1/completions", {"user": 7}, "body.user"),
        ("/v1/completions", {"suffix": ""}, "suffix"),
    ],
)
def test_what_is_looked_at_before_the_types(
    ideal: Any, path: str, fields: dict[str, object], param: str | None
) -> None:
    """Mistakes that generated requests found are refused as vLLM refuses them, with its field named."""
    good: dict[str, object] = {"messages": [{"role": "user", "content": "x"}], "prompt": "x"}
    answer = ideal.request("POST", path, good | fields)

    assert (answer.status, answer.error["param"]) == (400, param), answer.body


@pytest.mark.parametrize(
    "message", [{}, {"role": 7, "content": "x"}, {"content": "x"}, {"role": "user", "content": 7}, 7]
)
def test_a_message_of_no_kind(ideal: Any, message: object) -> None:
    """A message that is none of vLLM's kinds is refused with its place."""
    answer = ideal.request("POST", "/v1/chat/completions", {"messages": [message]})

    assert answer.status == 400
    assert answer.error["param"].startswith("body.messages.0.ChatCompletionDeveloperMessageParam")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": 7}, "body.prompt"),
        ({"messages": [{}]}, "body.prompt"),
        ({"messages": [], "add_special_tokens": "x"}, "body.prompt"),
        ({"messages": [], "model": 7}, "body.model"),
    ],
)
def test_a_conversation_that_cannot_be_counted(ideal: Any, fields: dict[str, object], param: str) -> None:
    """/tokenize tells of a conversation that it cannot read what vLLM tells."""
    answer = ideal.request("POST", "/tokenize", fields)

    assert (answer.status, answer.error["param"]) == (400, param)


def test_an_empty_token_under_a_parser(start: Any) -> None:
    """With calls of tools parsed, the end token of a stream has an empty delta; without, an empty text."""
    for parses, delta in ((True, {}), (False, {"content": ""})):
        sim = start("hermes", device="ideal", enable_auto_tool_choice=parses)
        assert sim.chat(stream=True).events[-1]["choices"][0]["delta"] == delta

    assert sim.chat(stream=True).events[-1]["choices"][0]["finish_reason"] == "stop"


def test_long_values_are_not_repeated(ideal: Any) -> None:
    """An error does not echo a long value back."""
    answer = ideal.chat(max_tokens="9" * 4000 + "x")

    assert answer.status == 400
    assert len(answer.body) < 1000


def test_ready_and_live(ideal: Any) -> None:
    """Health has the shape that all services of the stack have; the load is a number."""
    assert ideal.request("GET", "/health/ready").json == {"service": "hermes", "status": "ready", "dependencies": {}}
    assert ideal.request("GET", "/health/live").json == {"service": "hermes", "status": "live"}
    assert ideal.request("GET", "/load").json == {"server_load": 0}
    assert ideal.request("GET", "/version").json["simulated"] is True


def test_tokenize_counts_what_usage_counts(ideal: Any) -> None:
    """/tokenize and the usage of a request agree, for chats and texts."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why, 12345?"}]
    chat = ideal.request("POST", "/tokenize", {"messages": messages, "return_token_strs": True}).json
    text = ideal.request("POST", "/tokenize", {"prompt": "Hello world"}).json
    answer = ideal.request("POST", "/v1/chat/completions", {"messages": messages, "max_tokens": 1})

    assert chat["count"] == len(chat["tokens"]) == len(chat["token_strs"])
    assert chat["count"] == answer.json["usage"]["prompt_tokens"]
    assert text["count"] == ideal.complete("Hello world", max_tokens=1).json["usage"]["prompt_tokens"]


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
UNMEASURED = (
    "vllm:estimated_",  # the work of its own kernels; ours is in the physics
    "vllm:tool_call_parser_",  # of the parser's own code paths
)


def test_metric_names_are_those_of_vllm(ideal: Any) -> None:
    """Every sample of a recorded scrape is there under its name and labels, and nothing else is called vllm:."""
    recorded = json.loads(Path(__file__).with_name("data").joinpath("vllm-0.32-metrics.json").read_text("utf-8"))
    page = ideal.request("GET", "/metrics").body.decode()
    lines = [line for line in page.splitlines() if line.startswith("vllm:") and "_created" not in line]

    assert len(recorded) > 80
    for sample in recorded:
        if not sample["name"].startswith(UNMEASURED):
            wanted = [sample["name"], *(f'{key}="{value}"' for key, value in sample["labels"].items())]
            assert any(all(part in line for part in wanted) for line in lines), wanted
    names = {sample["name"] for sample in recorded} | {"vllm:cache_config_info"}
    assert {line.split("{")[0] for line in lines} <= names
    assert 'vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001",model_name="hermes"}' in page


def test_the_time_to_the_first_token_is_counted_when_it_comes(start: Any, eventually: Callable[..., None]) -> None:
    """A stream that goes on has its first token counted already, and is not counted as ended."""
    sim = start("mixtral", speed=0.2)
    with open_stream(sim.port, stream=True):
        eventually(lambda: sim.metric("vllm:time_to_first_token_seconds_count") == 1)
        assert sim.metric("vllm:e2e_request_latency_seconds_count") == 0
        assert sim.metric("vllm:engine_sleep_state", sleep_state="awake") == 1


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


def test_only_v1_asks_for_the_key(start: Any, tmp_path: Path) -> None:
    """With a key, /v1 is closed without it and the rest stays open."""
    file = tmp_path / "key"
    file.write_text("s3cret\n", encoding="utf-8")
    sim = start("phi3", device="ideal", api_key_file=str(file))
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}

    def status(key: str) -> int:
        answer = sim.request("POST", "/v1/chat/completions", body, {"authorization": key})
        return int(answer.status)

    assert sim.request("GET", "/v1/models").status == 401
    assert sim.request("GET", "/v1/models").body == b'{"error":"Unauthorized"}'
    assert status("Bearer s3cret") == 200
    assert [status(key) for key in ("Bearer s3cre", "s3cret", "Bearer sécret", "Basic s3cret")] == [401] * 4
    assert sim.request("GET", "/health").status == 200


def open_stream(port: int, **fields: object) -> socket.socket:
    """Ask for a long reply and return the connection once its first bytes are there."""
    body = json.dumps(
        {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1500, "ignore_eos": True, **fields}
    )
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
    return connection


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_place(start: Any, eventually: Callable[..., None], stream: bool) -> None:
    """A disconnect ends the sequence at once, streaming or not, and is not counted as a success."""
    sim = start("mixtral")
    connection = open_stream(sim.port, stream=stream)
    eventually(lambda: sim.metric("vllm:num_requests_running") == 1)
    assert sim.metric("vllm:kv_cache_usage_perc") > 0
    connection.close()

    eventually(lambda: sim.metric("vllm:num_requests_running") == 0)
    assert sim.metric("vllm:kv_cache_usage_perc") == 0
    assert sim.metric("vllm:request_success_total", finished_reason="length") == 0


def test_a_client_that_leaves_in_the_queue(start: Any, eventually: Callable[..., None]) -> None:
    """A request that never ran leaves the queue when its client does; a full queue answers 503."""
    sim = start("mixtral", max_num_seqs=1, max_num_queued_reqs=1)
    with open_stream(sim.port, stream=True):
        eventually(lambda: sim.metric("vllm:num_requests_running") == 1)
        with open_stream(sim.port):
            eventually(lambda: sim.metric("vllm:num_requests_waiting") == 1)
            refused = sim.chat(max_tokens=1)
            assert refused.status == 503
            assert sim.metric("vllm:admission_rejections_total", reason="max_num_queued_reqs") == 1
        eventually(lambda: sim.metric("vllm:num_requests_waiting") == 0)
        assert sim.metric("vllm:num_requests_running") == 1


def test_time_is_that_of_the_device(start: Any) -> None:
    """A reply takes what the physics say, neither less nor, on this host, much more; `speed` divides it."""
    from reference_stack.services.ai_models.model_spec import load_spec
    from reference_stack.services.ai_models.physics import find_device, step_time_s

    sim = start("mixtral", speed=0.5)
    begin_s = time.perf_counter()
    assert sim.chat(max_tokens=30, ignore_eos=True).status == 200
    took_s = time.perf_counter() - begin_s
    least_s = 29 * step_time_s(load_spec("mixtral"), find_device("h200"), 0, 1, 0) / 0.5

    assert least_s < took_s < least_s + 1.0


def test_a_step_serves_all_its_sequences(start: Any) -> None:
    """Twenty streams at once end together, because a batch shares its steps."""
    sim = start("mixtral")
    answers: list[Any] = []
    threads = [
        threading.Thread(target=lambda: answers.append(sim.chat(max_tokens=20, ignore_eos=True, stream=True)))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [len(answer.events) for answer in answers] == [21] * 20
    assert sim.metric("vllm:iteration_tokens_total_count") < 100


def test_an_unfinished_body_is_forgotten(ideal: Any) -> None:
    """A client that leaves in the middle of its request does no harm."""
    with socket.create_connection(("127.0.0.1", ideal.port)) as connection:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")

    assert ideal.request("GET", "/health").status == 200


def test_connections_are_kept(ideal: Any) -> None:
    """Two requests go over one connection, streams included."""
    connection = http.client.HTTPConnection("127.0.0.1", ideal.port, timeout=10)
    body = json.dumps({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2, "stream": True})
    for _ in range(2):
        connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
        assert connection.getresponse().read().endswith(b"data: [DONE]\n\n")
    connection.close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"service": "mixtrel"}, "did you mean 'mixtral'"),
        ({"service": "mixtral", "device": "l40s"}, "smaller precision"),
        ({"service": "phi3", "max_model_len": 5000}, "4096 positions"),
        ({"service": "phi3", "kv_tokens": 100}, "max_model_len to at most 96"),
        ({"service": "phi3", "api_key_env": "HXP_NO_SUCH_VARIABLE"}, "HXP_NO_SUCH_VARIABLE holds no key"),
        ({"service": "phi3", "api_key_file": "/no/such/file"}, "cannot read the key in /no/such/file"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], message: str) -> None:
    """A model that does not exist or fit, or a key that is not there, stops the start with what to do."""
    with pytest.raises(SettingsError, match=message):
        create_app(ModelSettings(**settings))


@pytest.mark.parametrize("extra", [{"divice": "h200"}, {"device": "tpu"}, {"api_key_env": "A", "api_key_file": "b"}])
def test_misspelt_settings_are_refused(extra: dict[str, Any]) -> None:
    """Unknown keys, unknown devices and two sources of the key are errors."""
    with pytest.raises(ValueError):
        ModelSettings(service="phi3", **extra)
