"""When the simulated engine answers: the times of its device, and clients that leave early or never finish."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest


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


def test_the_time_to_the_first_token_is_counted_when_it_comes(start: Any, eventually: Callable[..., None]) -> None:
    """A stream that goes on has its first token counted already, and is not counted as ended."""
    sim = start("mixtral", speed=0.2)
    with open_stream(sim.port, stream=True):
        eventually(lambda: sim.metric("vllm:time_to_first_token_seconds_count") == 1)
        assert sim.metric("vllm:e2e_request_latency_seconds_count") == 0
        assert sim.metric("vllm:engine_sleep_state", sleep_state="awake") == 1
