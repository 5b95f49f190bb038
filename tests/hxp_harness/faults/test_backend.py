"""The scripted backend misbehaves exactly as its table says, and its ledger knows what it did."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from hxp_harness.errors import UsageError
from hxp_harness.faults.backend import HEADER, Backend, mark
from hxp_harness.faults.behaviours import BEHAVIOURS, MIB, Act, Ask
from hxp_harness.faults.ledger import BackendRow, proof_of

KEY = b"a key"


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    with Backend(key=KEY, tick_s=0.002) as running:
        yield running


def ask_bytes(behaviour: str, name: str, *, stream: bool = True, tokens: int = 4) -> bytes:
    message = {"role": "user", "content": mark(name, f"nonce-{name}")}
    body = json.dumps({"model": "scripted", "messages": [message], "max_tokens": tokens, "stream": stream}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n{HEADER}: {behaviour}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def connect(backend: Backend) -> socket.socket:
    return socket.create_connection(("127.0.0.1", backend.port), timeout=5)


def drain(sock: socket.socket, *, idle_s: float = 1.0) -> tuple[bytes, str]:
    """Return what comes until the connection ends (how: end or reset) or stays silent (idle)."""
    sock.settimeout(idle_s)
    received = b""
    while True:
        try:
            more = sock.recv(MIB)
        except ConnectionResetError:
            return received, "reset"
        except TimeoutError:
            return received, "idle"
        if not more:
            return received, "end"
        received += more


def rows_of(backend: Backend, name: str, count: int = 1) -> list[BackendRow]:
    """Return the ledger's rows of a request, waiting for `count`: a row comes after the answer."""
    deadline_s = time.monotonic() + 10
    while True:
        rows = [row for row in backend.ledger() if row.request_id == name]
        if len(rows) >= count:
            return rows
        assert time.monotonic() < deadline_s, f"only {len(rows)} rows of {name}"
        threading.Event().wait(0.005)


def row_of(backend: Backend, name: str) -> BackendRow:
    return rows_of(backend, name)[0]


def post(backend: Backend, behaviour: str, name: str, *, stream: bool = False) -> httpx.Response:
    message = {"role": "user", "content": mark(name, f"nonce-{name}")}
    body = {"messages": [message], "max_tokens": 4, "stream": stream}
    return httpx.post(f"{backend.base_url}/chat/completions", json=body, headers={HEADER: behaviour}, timeout=5)


def events_of(text: str) -> list[Any]:
    """Return the JSON of well-framed events."""
    lines = [line.removeprefix("data:").strip() for line in text.splitlines() if line.startswith("data:")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def test_healthy_answer_carries_its_proof(backend: Backend) -> None:
    """A healthy answer, streamed or not, has the proof of its nonce, its tokens and its usage."""
    whole = post(backend, "healthy", "h1").json()
    events = events_of(post(backend, "healthy", "h2", stream=True).text)

    text = whole["choices"][0]["message"]["content"]
    assert text == f" {proof_of('nonce-h1', KEY)} t1 t2 t3"
    streamed = "".join(event["choices"][0]["delta"]["content"] for event in events[:-2])
    assert streamed == f" {proof_of('nonce-h2', KEY)} t1 t2 t3"
    assert whole["usage"] == events[-2]["usage"] == {"prompt_tokens": 4, "completion_tokens": 4, "total_tokens": 8}
    assert row_of(backend, "h1") == BackendRow("h1", 1, 4, complete=True)
    assert row_of(backend, "h2") == BackendRow("h2", 1, 4, complete=True)


def test_attempts_are_counted(backend: Backend) -> None:
    """Two requests with the same mark are two attempts."""
    for _ in range(2):
        post(backend, "healthy", "twice")
    assert [row.attempt for row in rows_of(backend, "twice", 2)] == [1, 2]


@pytest.mark.parametrize(
    ("behaviour", "how", "tokens", "contains"),
    [
        ("killed_before_first_byte", "reset", 0, b""),
        ("closed_before_first_byte", "end", 0, b""),
        ("killed_mid_stream", "reset", 2, b" t1"),
        ("closed_mid_stream", "end", 2, b" t1"),
        ("headers_never_come", "idle", 0, b""),
        ("half_headers", "idle", 0, b"content-ty"),
        ("body_stalls", "idle", 2, b" t1"),
        ("not_http", "end", 0, b"SSH-2.0"),
        ("no_status", "end", 0, b"HTTP/1.1 abc"),
        ("bad_chunk_size", "end", 2, b"zz\r\n"),
        ("negative_chunk_size", "end", 2, b"-5\r\n"),
        ("huge_chunk_size", "end", 2, b"fffffffffffffffff\r\n"),
        ("short_body", "end", 0, b"content-length: 1000"),
        ("long_body", "end", 0, b"content-length: 2"),
    ],
)
def test_broken_connections(backend: Backend, behaviour: str, how: str, tokens: int, contains: bytes) -> None:
    """Each broken connection breaks in its own way, after the tokens that the ledger says."""
    with connect(backend) as sock:
        sock.sendall(ask_bytes(behaviour, behaviour))
        received, ended = drain(sock, idle_s=0.3 if how == "idle" else 10)

    assert ended == how
    assert contains in received
    row = row_of(backend, behaviour)
    assert (row.emitted_tokens, row.complete) == (tokens, False)
    assert (row.abort_seen_s is not None) == (how == "idle")


@pytest.mark.parametrize("behaviour", ["killed_mid_stream", "closed_mid_stream", "body_stalls"])
def test_broken_without_streaming(backend: Backend, behaviour: str) -> None:
    """Without streaming half a body comes."""
    with connect(backend) as sock:
        sock.sendall(ask_bytes(behaviour, f"whole-{behaviour}", stream=False))
        received, _ = drain(sock)
    if behaviour != "killed_mid_stream":  # a reset may overtake the bytes
        assert (
            0 < len(received.partition(b"\r\n\r\n")[2]) < int(received.split(b"content-length: ")[1].split(b"\r\n")[0])
        )


@pytest.mark.parametrize(
    ("behaviour", "status", "retry_after"),
    [
        ("status_400", 400, None),
        ("status_401", 401, None),
        ("status_404", 404, None),
        ("status_500", 500, None),
        ("status_502", 502, None),
        ("status_503", 503, "1"),
        ("status_429", 429, "1"),
        ("retry_after_nonsense", 429, "soon"),
        ("redirect", 307, None),
    ],
)
def test_refusals(backend: Backend, behaviour: str, status: int, retry_after: str | None) -> None:
    """A refusal has its status and Retry-After."""
    answer = post(backend, behaviour, behaviour)

    assert answer.status_code == status
    assert answer.headers.get("retry-after") == retry_after
    if behaviour != "redirect":
        assert answer.json()["error"]["code"] == status


@pytest.mark.parametrize(
    ("behaviour", "body"), [("empty_200", b""), ("not_json_200", b"<html>it works</html>"), ("error_body_200", None)]
)
def test_hollow_successes(backend: Backend, behaviour: str, body: bytes | None) -> None:
    """A 200 may be empty, no JSON, or an error."""
    answer = post(backend, behaviour, behaviour)
    assert answer.status_code == 200
    if body is None:
        assert answer.json()["error"]["code"] == 500
    else:
        assert answer.content == body


def test_error_event_is_followed_by_done(backend: Backend) -> None:
    """An engine that dies in a stream leaves an error event and [DONE] behind it; without streaming a 500."""
    events = events_of(post(backend, "error_event", "ee", stream=True).text)
    assert events[-2]["error"]["code"] == 500
    assert events[-1] == "[DONE]"
    assert post(backend, "error_event", "ee2").status_code == 500


def test_flapping_refuses_every_second(backend: Backend) -> None:
    """Of two requests in a row one is refused."""
    statuses = {post(backend, "flapping", f"f{number}").status_code for number in range(2)}
    assert statuses == {200, 503}


def test_wrong_contents(backend: Backend) -> None:
    """Wrong model and wrong usage are otherwise healthy answers."""
    assert post(backend, "wrong_model", "wm").json()["model"] == "another-model"
    assert post(backend, "wrong_usage", "wu").json()["usage"]["completion_tokens"] == 999_999
    events = events_of(post(backend, "negative_usage", "nu", stream=True).text)
    assert events[-2]["usage"]["completion_tokens"] == -1


@pytest.mark.parametrize(
    ("behaviour", "contains"),
    [
        ("split_every_byte", "data: [DONE]\n\n"),
        ("crlf_lines", "data: [DONE]\r\n\r\n"),
        ("cr_lines", "data: [DONE]\r\r"),
        ("comments", ": comment\ndata: "),
        ("no_space", "data:{"),
        ("other_fields", "event: message\n"),
        ("byte_order_mark", "\ufeffdata: "),
        ("multi_line_data", ',\ndata: "object"'),
        ("double_done", "data: [DONE]\n\ndata: [DONE]\n\n"),
        ("data_after_done", 'data: [DONE]\n\ndata: {"choices": []}\n\n'),
        ("not_json_event", "data: {oops\n\n"),
        ("no_done", '"finish_reason": "stop"'),
    ],
)
def test_sse_torture_is_sound_http(backend: Backend, behaviour: str, contains: str) -> None:
    """Tortured events come in sound HTTP with all their tokens."""
    text = post(backend, behaviour, behaviour, stream=True).content.decode()

    assert contains in text
    assert " t3" in text
    assert "usage" in text
    assert ("[DONE]" in text) == (behaviour != "no_done")
    assert row_of(backend, behaviour).emitted_tokens == 4
    assert post(backend, behaviour, f"{behaviour}-whole").json()["usage"]["completion_tokens"] == 4


@pytest.mark.parametrize(("behaviour", "size"), [("line_of_1_mib", MIB), ("line_of_16_mib", 16 * MIB)])
def test_long_lines(backend: Backend, behaviour: str, size: int) -> None:
    """A line of many bytes comes whole, streamed or not."""
    text = post(backend, behaviour, behaviour, stream=True).text
    assert len(max(text.split("\n"), key=len)) > size
    assert len(post(backend, behaviour, f"{behaviour}-whole").content) > size


def test_slow_behaviours_take_their_ticks() -> None:
    """A slow start waits a tick; one byte a tick takes as many ticks as bytes."""
    with Backend(tick_s=0.1) as backend:
        started_s = time.monotonic()
        assert post(backend, "slow_start", "s").status_code == 200
        assert time.monotonic() - started_s >= 0.1
        with connect(backend) as sock:
            sock.sendall(ask_bytes("one_byte_a_tick", "drip"))
            assert sock.recv(65536) == b"H"


def test_the_table_is_played_to_its_end() -> None:
    """Every behaviour gives acts for both kinds of request; its counted tokens never exceed what was asked."""
    for name, behaviour in BEHAVIOURS.items():
        for stream in (True, False):
            acts = list(behaviour(Ask("m", stream, 3, "proof", number=1, tick_s=0.0)))
            assert acts, name
            assert all(isinstance(act, Act) for act in acts)
            assert sum(act.tokens for act in acts) <= 3 + name.startswith("line_of"), name


def test_behaviour_changes_while_it_runs() -> None:
    """`behave` counts from the next request, on connections that are open too; unknown names are refused."""
    with Backend() as backend, httpx.Client() as client:
        body = {"messages": [], "max_tokens": 1}
        assert client.post(f"{backend.base_url}/chat/completions", json=body).status_code == 200
        backend.behave("status_503")
        assert client.post(f"{backend.base_url}/chat/completions", json=body).status_code == 503
        with pytest.raises(UsageError, match="did you mean 'status_503'"):
            backend.behave("status503")


def test_models_and_odd_bodies(backend: Backend) -> None:
    """The list of models is served, and a body that is no JSON or no object is answered all the same."""
    assert httpx.get(f"{backend.base_url}/models").json()["data"][0]["id"] == "scripted"
    for body in (b"{", b"[]", b'{"max_tokens": "x"}'):
        answer = httpx.post(f"{backend.base_url}/completions", content=body, headers={"x-request-id": "odd"})
        assert answer.json()["usage"]["completion_tokens"] == 8
    assert row_of(backend, "odd").attempt == 1


def test_client_reset_is_an_abort(backend: Backend) -> None:
    """A client that resets in the middle is in the ledger as gone."""
    with connect(backend) as sock:
        sock.sendall(ask_bytes("body_stalls", "resetter"))
        assert b"200" in sock.recv(65536)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert not row_of(backend, "resetter").complete


def test_pipelined_requests_are_both_answered(backend: Backend) -> None:
    """A request that comes before the answer to the one before it is not lost."""
    with connect(backend) as sock:
        sock.sendall(ask_bytes("healthy", "p1", stream=False) + ask_bytes("healthy", "p2", stream=False))
        received, _ = drain(sock)
    for name in ("p1", "p2"):
        assert proof_of(f"nonce-{name}", KEY).encode() in received
        assert row_of(backend, name).complete
