"""Stopping a simulated engine: open streams end, new requests are refused as vLLM refuses them."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def served(*assignments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Serve hermes in a process of its own until the block ends; yield it and its port."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        argv = [sys.executable, "-m", "reference_stack", "serve", "hermes", "--fd", str(sock.fileno())]
        argv += [part for text in ("device=h200", "allow_scripts=true", *assignments) for part in ("--set", text)]
        process = subprocess.Popen(argv, pass_fds=[sock.fileno()], stderr=subprocess.PIPE, text=True)
    with process:
        assert process.stderr is not None
        while "startup complete" not in (line := process.stderr.readline()):
            assert line, "it ended before it served"
        try:
            yield process, port
        finally:
            process.kill()


@contextmanager
def stream(port: int, tokens: int, token_s: float) -> Iterator[http.client.HTTPResponse]:
    """Start a stream of `tokens` tokens, and yield it once its first event is there."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    script = {"reply": ["x"] * tokens, "token_s": token_s}
    messages = [{"role": "user", "content": "hi"}]
    body = json.dumps({"messages": messages, "stream": True, "max_tokens": tokens, "hxp_script": script})
    connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
    with contextlib.closing(connection), connection.getresponse() as answer:
        assert answer.readline().startswith(b"data: ")
        yield answer


def test_open_streams_end_and_new_requests_are_refused() -> None:
    """With a shutdown timeout a stream goes on to its end; meanwhile requests get vLLM's 500, and /health its 200."""
    with served("shutdown_timeout_s=20") as (process, port), stream(port, 20, 0.1) as answer:
        process.send_signal(signal.SIGTERM)
        status, text = refusal(port)
        assert (status, json.loads(text)["error"]["message"]) == (500, "cannot schedule new futures after shutdown")
        assert ask(port, "GET", "/health", "")[0] == 200
        assert answer.read().endswith(b"data: [DONE]\n\n")
        answer.close()
        assert process.wait(timeout=15) in (0, -signal.SIGTERM)


@pytest.mark.parametrize(("timeout_s", "signals"), [("0.2", 1), ("600", 2)])
def test_the_timeout_and_a_second_signal_end_the_waiting(timeout_s: str, signals: int) -> None:
    """A stream that is too long does not keep the process: not beyond its timeout, nor a second signal."""
    with served(f"shutdown_timeout_s={timeout_s}") as (process, port), stream(port, 3000, 0.1):
        process.send_signal(signal.SIGTERM)
        if signals > 1:
            refusal(port)  # two signals at once are one
            process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) in (0, -signal.SIGTERM)


def test_an_idle_engine_stops_at_once() -> None:
    """With nothing open there is nothing to wait for, whatever the timeout."""
    with served("shutdown_timeout_s=600") as (process, _):
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) in (0, -signal.SIGTERM)


def refusal(port: int) -> tuple[int, bytes]:
    """Return the first answer that is no 200: the server drains."""
    end_s = time.monotonic() + 5
    status, text = 200, b""
    while status == 200:
        assert time.monotonic() < end_s, "requests are still taken"
        status, text = ask(port, "POST", "/v1/completions", '{"prompt": "a", "max_tokens": 1}')
    return status, text


def ask(port: int, method: str, path: str, body: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, body, {"content-type": "application/json"} if body else {})
    answer = connection.getresponse()
    status, text = answer.status, answer.read()
    connection.close()
    return status, text
