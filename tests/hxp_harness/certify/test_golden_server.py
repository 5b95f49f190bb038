"""The golden server as a server: slots, requests of all kinds, connections, its beginning and its end."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from hxp_harness.certify.truth import read_truths
from tests.hxp_harness.certify.conftest import (
    LONG,
    StartGolden,
    connect,
    exchange,
    narrow,
    payloads,
    request_bytes,
)


def test_slots_queue_exactly(start_golden: StartGolden) -> None:
    """With one slot the second request's clock starts at the moment when the first one's last token is due."""
    server = start_golden(slots=1)
    socks = [connect(server) for _ in range(3)]
    for number, sock in enumerate(socks):
        sock.sendall(request_bytes(f"r{number}"))
        time.sleep(0.001)  # orders the arrivals; the truth says in what order they came
    for sock in socks:
        while sock.recv(65536):
            pass
        sock.close()
    truths = sorted((server.truth(f"r{number}") for number in range(3)), key=lambda truth: truth.start_s)

    for before, after in itertools.pairwise(truths):
        assert after.arrived_s < before.events[-1].due_s
        assert after.start_s == pytest.approx(before.events[-1].due_s, abs=1e-6)


def test_a_client_that_leaves_the_queue_takes_no_slot(start_golden: StartGolden) -> None:
    """Requests cancelled while they wait, and while they run, give way to the next."""
    server = start_golden(slots=1, ttft_s=0.1)
    running, waiting, last = connect(server), connect(server), connect(server)
    with last:
        for number, sock in enumerate((running, waiting, last)):
            sock.sendall(request_bytes(f"r{number}"))
            time.sleep(0.002)  # orders the arrivals
        waiting.close()
        assert server.truth("r1").ended == "cancelled"
        running.close()
        assert server.truth("r0").ended == "cancelled"
        while last.recv(65536):
            pass
    assert server.truth("r2").ended == "complete"


@pytest.mark.parametrize("how", ["header", "field"])
def test_a_request_chooses_its_own_behaviour(start_golden: StartGolden, how: str) -> None:
    """The header X-Golden or the field `golden` changes the behaviour of one request."""
    server = start_golden()
    wanted = {"done": False, "usage": False}
    if how == "header":
        request = request_bytes("a", headers=f"X-Golden: {json.dumps(wanted)}\r\n")
    else:
        request = request_bytes("a", golden=wanted)

    assert len(payloads(exchange(server, request))) == 5
    assert payloads(exchange(server, request_bytes("b")))[-1] == "[DONE]"


@pytest.mark.parametrize(
    "body",
    [
        {"golden": {"no_such": 1}},
        {"golden": {"itl_s": "soon"}},
        {"golden": {"itl_s": -1}},
        {"golden": {"role": "late"}},
        {"golden": 3},
        {"max_tokens": "many"},
        {"max_tokens": -1},
    ],
)
def test_nonsense_is_refused(start_golden: StartGolden, body: dict[str, Any]) -> None:
    """A behaviour or a length that makes no sense is a 400 in vLLM's shape."""
    answer = exchange(start_golden(), request_bytes("a", **body))

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"]["code"] == 400


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/health", "", 200),
        ("GET", "/v1/models?x=1", "", 200),
        ("GET", "/nowhere", "", 404),
        ("GET", "/v1/chat/completions", "", 404),
        ("POST", "/v1/chat/completions", "{", 400),
        ("POST", "/v1/chat/completions", "[]", 400),
    ],
)
def test_other_routes(start_golden: StartGolden, method: str, path: str, body: str, status: int) -> None:
    """Health and models answer, other routes and bodies are refused."""
    server = start_golden()
    answer = httpx.request(method, f"http://127.0.0.1:{server.port}{path}", content=body)

    assert answer.status_code == status
    if "models" in path:
        assert answer.json()["data"][0]["id"] == "golden"


def test_an_unknown_model_is_refused_as_vllm_does(start_golden: StartGolden) -> None:
    """Another model is a 404 in vLLM's words and leaves no truth; without a name it is the only one."""
    server = start_golden()
    url = f"{server.base_url}/completions"
    with httpx.Client() as client:
        refused = client.post(url, json={"model": "nope", "prompt": "x"}, headers={"X-Request-Id": "a"})
        asked = client.post(url, json={"prompt": "x", "max_tokens": 1}, headers={"X-Request-Id": "b"})

    assert (refused.status_code, asked.status_code) == (404, 200)
    assert refused.json()["error"] == {
        "message": "The model `nope` does not exist. Valid aliases: golden.",
        "type": "NotFoundError",
        "param": "model",
        "code": 404,
    }
    server.truth("b")
    assert set(server.truths()) == {"b"}


def test_bytes_that_are_no_http(start_golden: StartGolden) -> None:
    """Bytes that are no HTTP get a 400 and a closed connection."""
    assert exchange(start_golden(), b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def test_connection_is_kept_and_pipelined(start_golden: StartGolden) -> None:
    """Requests sent at once on one connection are answered in order, one after the other."""
    server = start_golden()
    both = request_bytes("a", close=False) + request_bytes("b")
    answer = exchange(server, both)

    assert answer.index(b"x-request-id: a") < answer.index(b"x-request-id: b")
    assert answer.count(b"data: [DONE]") == 2
    assert server.truth("b").events[0].lo_s > server.truth("a").events[-1].hi_s


def test_slow_reader_gets_every_byte(start_golden: StartGolden) -> None:
    """What does not fit into the kernel's buffers is sent later, and `hi_s` says when."""
    server = start_golden(ttft_s=0, itl_s=0)
    tokens = 3_000
    with narrow(server) as sock:
        sock.sendall(request_bytes(LONG, max_tokens=tokens))
        httpx.get(f"http://127.0.0.1:{server.port}/health")  # answered when all of the stream has been written
        answer = b"".join(iter(lambda: sock.recv(1 << 20), b""))
    events = server.truth(LONG, wait_s=10).events

    assert len(payloads(answer)) == tokens + 3
    assert len(events) == tokens
    assert all(event.hi_s >= event.lo_s > 0 for event in events)
    assert events[-1].hi_s > events[-1].lo_s + 0.001


def test_client_gone_before_it_read_all(start_golden: StartGolden) -> None:
    """A stream whose bytes the kernel never took ends as cancelled, its last token without an upper bound."""
    server = start_golden(ttft_s=0, itl_s=0)
    with narrow(server) as sock:
        sock.sendall(request_bytes(LONG, max_tokens=3_000))
        httpx.get(f"http://127.0.0.1:{server.port}/health")  # answered when all of the stream has been written
    truth = server.truth(LONG)

    assert truth.ended == "cancelled"
    assert len(truth.events) == 3_000
    assert truth.events[0].hi_s > 0
    assert truth.events[-1].hi_s == 0


def test_stop_ends_open_answers(start_golden: StartGolden, tmp_path: Path) -> None:
    """SIGTERM closes open streams and logs them as stopped."""
    server = start_golden(stall_at=1, stall_s=60)
    with connect(server) as sock:
        sock.sendall(request_bytes("a"))
        while b" t0" not in sock.recv(65536):
            pass
        os.kill(server.pid, signal.SIGTERM)
        while sock.recv(65536):
            pass
    assert server.truth("a").ended == "stopped"
    assert [event.tokens for event in read_truths(tmp_path / "golden.jsonl")[0].events] == [1]


def test_inherited_socket(tmp_path: Path) -> None:
    """With --fd the server listens on a socket that its parent made, and dies with the parent's pipe."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        argv = [sys.executable, "-m", "hxp_harness.certify.golden", "--fd", str(listener.fileno())]
        argv += ["--log", str(tmp_path / "log")]
        with subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[listener.fileno()]
        ) as process:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            assert ready["port"] == listener.getsockname()[1]
            assert httpx.get(f"http://127.0.0.1:{ready['port']}/health").status_code == 200
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(5) == 0


def test_dies_with_its_parent(tmp_path: Path) -> None:
    """Without a pipe the server dies when its parent is killed."""
    code = (
        "import subprocess, sys, time\n"
        "argv = [sys.executable, '-m', 'hxp_harness.certify.golden', '--log', sys.argv[1]]\n"
        "subprocess.Popen(argv, stdin=subprocess.DEVNULL)\n"
        "time.sleep(60)\n"  # lives until it is killed
    )
    argv = [sys.executable, "-c", code, str(tmp_path / "log")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        ready = json.loads(parent.stdout.readline())
        parent.kill()
        assert parent.stdout.read() == b""  # the pipe's last holder, the server, is gone
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", ready["port"]))


@pytest.mark.parametrize("arguments", [["--behaviour", "{"], ["--itl-s", "-1"], ["--fd", "99"]])
def test_wrong_arguments(tmp_path: Path, arguments: list[str]) -> None:
    """Arguments that make no sense end the server with 2 and a message."""
    argv = [sys.executable, "-m", "hxp_harness.certify.golden", "--log", str(tmp_path / "log"), *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20)

    assert done.returncode == 2
    assert done.stderr.startswith("golden: ")
