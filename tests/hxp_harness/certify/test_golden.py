"""The golden server does what its behaviour says, on the wire and in its own log."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from hxp_harness.certify.behaviour import Behaviour
from hxp_harness.certify.golden_process import GoldenServer, golden
from hxp_harness.certify.truth import read_truths

QUICK = Behaviour(ttft_s=0.02, itl_s=0.004)
LONG = "a" * 4000  # a request id that makes every event long
StartGolden = Callable[..., GoldenServer]


@pytest.fixture
def start_golden(tmp_path: Path) -> Iterator[StartGolden]:
    """Start golden servers, as in `start_golden(slots=2, itl_s=0.01)`."""
    with ExitStack() as stack:

        def start(*, slots: int = 0, seed: int = 0, **behaviour: Any) -> GoldenServer:
            return stack.enter_context(golden(tmp_path, replace(QUICK, **behaviour), slots=slots, seed=seed))

        yield start


def request_bytes(
    request_id: str, *, path: str = "/v1/chat/completions", close: bool = True, headers: str = "", **body: Any
) -> bytes:
    """Return a POST of a chat request of 4 streamed tokens, changed by `body`."""
    asked = {"model": "golden", "messages": [{"role": "user", "content": "one two three"}], "max_tokens": 4}
    asked |= {"stream": True, "stream_options": {"include_usage": True}} | body
    text = json.dumps({name: value for name, value in asked.items() if value is not None}).encode()
    ending = "connection: close\r\n" if close else ""
    head = f"POST {path} HTTP/1.1\r\nhost: golden\r\nx-request-id: {request_id}\r\n{headers}{ending}"
    return f"{head}content-length: {len(text)}\r\n\r\n".encode() + text


def connect(server: GoldenServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


def narrow(server: GoldenServer) -> socket.socket:
    """Connect with a receive buffer so small that the server's kernel soon takes no more."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(20)
    sock.connect(("127.0.0.1", server.port))
    return sock


def exchange(server: GoldenServer, request: bytes) -> bytes:
    """Send `request` and return every byte until the server closes; ConnectionResetError if it resets."""
    with connect(server) as sock:
        sock.sendall(request)
        return b"".join(iter(lambda: sock.recv(65536), b""))


def payloads(answer: bytes) -> list[Any]:
    """Return the JSON of every event of a streamed answer, and "[DONE]" as it is."""
    found = []
    for line in answer.split(b"\n"):
        if line.startswith(b"data: "):
            text = line.removeprefix(b"data: ")
            found.append("[DONE]" if text == b"[DONE]" else json.loads(text))
    return found


def content(events: list[dict[str, Any]]) -> str:
    return "".join(event["choices"][0]["delta"].get("content", "") for event in events[:-2])


def test_tokens_leave_at_their_absolute_times(start_golden: StartGolden) -> None:
    """Token k is due at arrival + ttft + k * itl and never leaves before."""
    server = start_golden()
    exchange(server, request_bytes("a", max_tokens=20))
    truth = server.truth("a")

    assert truth.ended == "complete"
    assert [event.tokens for event in truth.events] == [1] * 20
    for number, event in enumerate(truth.events):
        assert event.due_s == pytest.approx(truth.arrived_s + 0.02 + number * 0.004, abs=1e-6)
        assert event.due_s <= event.lo_s <= event.hi_s
    assert truth.arrived_s <= truth.read_s == pytest.approx(truth.arrived_s, abs=0.5)
    assert min(event.lo_s - event.due_s for event in truth.events) < 0.002
    assert truth.end_s >= truth.events[-1].hi_s


def test_stream_speaks_openai(start_golden: StartGolden) -> None:
    """A streamed chat is role, tokens, finish_reason, usage and [DONE]."""
    answer = exchange(start_golden(), request_bytes("a"))
    events = payloads(answer)

    assert answer.startswith(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream")
    assert b"x-request-id: a\r\n" in answer
    assert answer.endswith(b"0\r\n\r\n")
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert content(events) == " t0 t1 t2 t3"
    assert [event["choices"][0]["finish_reason"] for event in events[:-2]] == [None] * 4 + ["length"]
    assert events[-2]["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    assert events[-1] == "[DONE]"


def test_usage_comes_only_when_asked_for(start_golden: StartGolden) -> None:
    """Without stream_options no event carries usage; with continuous usage every one does."""
    server = start_golden()
    plain = payloads(exchange(server, request_bytes("a", stream_options=None)))
    continuous = {"include_usage": True, "continuous_usage_stats": True}
    counted = payloads(exchange(server, request_bytes("b", stream_options=continuous)))

    assert len(plain) == 6
    assert not any("usage" in event for event in plain)
    assert [event["usage"]["completion_tokens"] for event in counted[1:-1]] == [1, 2, 3, 4, 4]


@pytest.mark.parametrize(
    ("path", "prompt"),
    [
        ("/v1/chat/completions", {}),
        ("/v1/completions", {"messages": None, "prompt": "one two"}),
        ("/v1/completions", {"messages": None, "prompt": ["one", "two"]}),
    ],
)
def test_answer_without_streaming(start_golden: StartGolden, path: str, prompt: dict[str, Any]) -> None:
    """Without streaming the whole body leaves when the last token is due."""
    server = start_golden(reasoning_tokens=1)
    answer = exchange(server, request_bytes("a", path=path, stream=None, stream_options=None, **prompt))
    body = json.loads(answer.split(b"\r\n\r\n", 1)[1])
    truth = server.truth("a")

    (event,) = truth.events
    assert event.tokens == 4
    assert event.due_s == pytest.approx(truth.arrived_s + 0.02 + 3 * 0.004, abs=1e-6)
    assert body["usage"]["completion_tokens"] == 4
    assert body["usage"]["prompt_tokens"] == (2 if prompt else 3)
    choice = body["choices"][0]
    assert choice["finish_reason"] == "length"
    assert choice["text" if prompt else "message"] == (
        " t1 t2 t3" if prompt else {"role": "assistant", "content": " t1 t2 t3", "reasoning": " t0"}
    )


def test_completions_stream(start_golden: StartGolden) -> None:
    """A streamed text completion has text where a chat has a delta."""
    events = payloads(
        exchange(start_golden(role="none"), request_bytes("a", path="/v1/completions", prompt="x", messages=None))
    )

    assert [event["choices"][0]["text"] for event in events[:-2]] == [" t0", " t1", " t2", " t3"]


def test_several_tokens_in_an_event(start_golden: StartGolden) -> None:
    """An event with several tokens leaves when its last is due, and the truth counts them."""
    server = start_golden(tokens_per_event=3)
    events = payloads(exchange(server, request_bytes("a", max_tokens=7)))
    truth = server.truth("a")

    assert content(events) == " t0 t1 t2 t3 t4 t5 t6"
    assert [event.tokens for event in truth.events] == [3, 3, 1]
    assert truth.events[0].due_s == pytest.approx(truth.arrived_s + 0.02 + 2 * 0.004, abs=1e-6)


def test_early_role_chunk_is_no_token(start_golden: StartGolden) -> None:
    """An early role chunk arrives long before the first token and is not in the truth."""
    server = start_golden(role="early", ttft_s=0.3)
    with connect(server) as sock:
        sent_s = time.monotonic()
        sock.sendall(request_bytes("a", max_tokens=1))
        received = b""
        while b"assistant" not in received:
            received += sock.recv(65536)
        role_s = time.monotonic() - sent_s
        while sock.recv(65536):
            pass

    assert role_s < 0.25
    (event,) = server.truth("a").events
    assert event.lo_s >= sent_s + 0.3


@pytest.mark.parametrize("trap", [{"split_at": 2}, {"split_every": True}])
def test_split_event_counts_from_its_last_byte(start_golden: StartGolden, trap: dict[str, Any]) -> None:
    """An event cut in two is complete, and true, only with its second segment."""
    server = start_golden(split_s=0.05, **trap)
    events = payloads(exchange(server, request_bytes("a")))
    truth = server.truth("a")

    assert content(events) == " t0 t1 t2 t3"
    assert truth.events[2].due_s >= truth.arrived_s + 0.02 + 2 * 0.004 + 0.05 - 1e-6
    assert len(truth.events) == 4


def test_reasoning_is_a_channel_of_its_own(start_golden: StartGolden) -> None:
    """Reasoning tokens come in their own field and are tokens all the same."""
    server = start_golden(reasoning_tokens=2)
    events = payloads(exchange(server, request_bytes("a")))

    assert [event["choices"][0]["delta"].get("reasoning") for event in events[1:-2]] == [" t0", " t1", None, None]
    assert len(server.truth("a").events) == 4


def test_error_event_in_the_stream(start_golden: StartGolden) -> None:
    """An error event under status 200 ends the stream, [DONE] behind it as vLLM does."""
    server = start_golden(error_at=2)
    events = payloads(exchange(server, request_bytes("a")))

    assert events[-2]["error"]["code"] == 500
    assert events[-1] == "[DONE]"
    assert server.truth("a").ended == "error"
    assert len(server.truth("a").events) == 2


def test_abort_ends_in_the_middle(start_golden: StartGolden) -> None:
    """An aborted stream ends without its last chunk."""
    server = start_golden(abort_at=2)
    answer = exchange(server, request_bytes("a"))

    assert not answer.endswith(b"0\r\n\r\n")
    assert len(payloads(answer)) == 3
    assert server.truth("a").ended == "abort"


def test_reset_is_a_reset(start_golden: StartGolden) -> None:
    """A reset connection gives ECONNRESET, not an end of file."""
    server = start_golden(reset_at=2)
    with pytest.raises(ConnectionResetError):
        exchange(server, request_bytes("a"))
    assert server.truth("a").ended == "reset"


@pytest.mark.parametrize(
    ("trap", "ended"),
    [({"reset_at": 0}, "reset"), ({"abort_at": 0}, "abort"), ({"error_at": 0}, "error"), ({"status": 429}, "status")],
)
def test_traps_without_streaming(start_golden: StartGolden, trap: dict[str, Any], ended: str) -> None:
    """Each way to fail has a form without streaming."""
    server = start_golden(**trap)
    request = request_bytes("a", stream=None, stream_options=None)
    if ended == "reset":
        with pytest.raises(ConnectionResetError):
            exchange(server, request)
    else:
        first = {"abort": b"HTTP/1.1 200", "error": b"HTTP/1.1 500", "status": b"HTTP/1.1 429"}[ended]
        assert exchange(server, request).startswith(first)
    assert server.truth("a").ended == ended
    assert server.truth("a").events == []


def test_stall_delays_everything_after(start_golden: StartGolden) -> None:
    """A stall puts its length before its token and all later ones."""
    server = start_golden(stall_at=2, stall_s=0.2)
    exchange(server, request_bytes("a"))
    truth = server.truth("a")

    offsets = [event.due_s - truth.arrived_s for event in truth.events]
    assert offsets == pytest.approx([0.02, 0.024, 0.228, 0.232], abs=1e-6)


def test_jitter_is_seeded(start_golden: StartGolden) -> None:
    """The same seed and request id draw the same jitter; another seed another."""

    def offsets(server: GoldenServer) -> list[float]:
        exchange(server, request_bytes("a", max_tokens=10))
        truth = server.truth("a")
        return [event.due_s - truth.arrived_s for event in truth.events]

    first, again, other = (offsets(start_golden(jitter_s=0.01, seed=seed)) for seed in (1, 1, 2))

    assert first == pytest.approx(again, abs=1e-6)
    assert first != pytest.approx(other, abs=1e-6)
    assert first == sorted(first)


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
        "time.sleep(60)\n"
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
