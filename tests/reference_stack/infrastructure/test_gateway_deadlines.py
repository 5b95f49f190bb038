"""How long the gateway waits for its clients, and how much it takes from them, on the short way and beside it."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.reference_stack.infrastructure.conftest import (
    DEADLINE_S,
    KEY,
    ROLE,
    WHOLE,
    Gateway,
    MakeGateway,
    Wire,
    chat,
    eventually,
    raw,
    text_event,
)

BOTH = pytest.mark.parametrize("hot_path", [True, False], ids=["hot", "fastapi"])
HEAD = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n".encode()


def request(*more: bytes, body: bytes = json.dumps(chat()).encode()) -> bytes:
    lines = [b"content-type: application/json", b"content-length: %d" % len(body), *more]
    return HEAD + b"\r\n".join([*lines, b"", body])


def rest_of(sock: socket.socket) -> bytes:
    """Read until the other side closes."""
    sock.settimeout(DEADLINE_S)
    found = b""
    try:
        while part := sock.recv(65536):
            found += part
    except ConnectionResetError:
        pass
    return found


def error_in(answer: bytes) -> tuple[int, str, str]:
    """Return the status, the error's code and its class of an answer that closes the connection."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head
    error = json.loads(body)["error"]
    assert f"x-request-id: {error['request_id']}".encode() in head
    return int(head.split(b" ")[1]), error["code"], error["type"]


@BOTH
def test_a_silent_connection_is_closed(make_gateway: MakeGateway, hot_path: bool) -> None:
    """Who connects and says nothing holds a descriptor for `headers_s` and no longer."""
    gateway = make_gateway(hot_path=hot_path, limits={"headers_s": 0.2})
    with raw(gateway) as sock:
        began_s = time.monotonic()
        assert rest_of(sock) == b""
    assert 0.1 < time.monotonic() - began_s < 2.0


@pytest.mark.owasp("API4:2023")
@BOTH
def test_a_slow_head_is_told_so(make_gateway: MakeGateway, hot_path: bool) -> None:
    """A head that comes byte by byte is a 408 by the deadline, however steadily it comes; it is counted."""
    gateway = make_gateway(hot_path=hot_path, limits={"headers_s": 0.3})
    with raw(gateway) as sock:
        sock.settimeout(0.02)
        answer = b""
        for byte in HEAD:
            try:
                sock.sendall(bytes([byte]))
                answer += sock.recv(1024)
            except TimeoutError:
                continue
            if answer:
                break
        answer += rest_of(sock)
    assert error_in(answer) == (408, "head_timeout", "invalid_request_error")
    assert 'hxp_gateway_requests_total{model="",route="other",status="408"} 1.0' in gateway.http.get("/metrics").text


@BOTH
def test_a_kept_connection_is_closed_when_idle(make_gateway: MakeGateway, hot_path: bool) -> None:
    """After an answer the connection is kept for `idle_s`; what comes in time is answered on it."""
    gateway = make_gateway(hot_path=hot_path, limits={"idle_s": 0.3})
    with raw(gateway) as sock:
        for _ in range(3):
            sock.sendall(request())
            answer = b""
            while WHOLE not in answer:
                answer += sock.recv(65536)
        assert rest_of(sock) == b""
    assert len(gateway.backend.asked) == 3


@BOTH
def test_a_body_that_nobody_reads_is_cut_off(make_gateway: MakeGateway, hot_path: bool) -> None:
    """An answer that needs no body does not let the client send one for ever."""
    gateway = make_gateway(hot_path=hot_path, limits={"body_s": 0.1})
    with raw(gateway) as sock:
        sock.sendall(b"GET /health/live HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n")
        assert rest_of(sock).startswith(b"HTTP/1.1 200 ")


@pytest.mark.owasp("API4:2023")
@BOTH
def test_a_client_that_takes_nothing_is_cut_off(make_gateway: MakeGateway, hot_path: bool) -> None:
    """A stream that nobody reads ends `write_s` after the buffers are full, and its model is let go."""
    gateway = make_gateway(hot_path=hot_path, limits={"write_s": 0.3})

    async def floods(wire: Wire) -> None:
        await wire.stream(ROLE)
        try:
            while True:
                await wire.chunk(text_event("x" * 100_000))
        finally:
            await wire.wait_gone()

    gateway.backend.script = floods
    with raw(gateway) as sock:
        sock.sendall(request(body=json.dumps(chat(stream=True)).encode()))
        row = gateway.usage.last()
    assert row.outcome == "cancelled"
    assert 0.2 < row.took_s < 5.0


@BOTH
@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (HEAD + b"x-long: " + b"x" * 300_000, 431, "headers_too_large"),
        (HEAD + b"connection: close\r\nx-long: " + b"x" * 40_000 + b"\r\n\r\n", 431, "headers_too_large"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "invalid_http"),
        (HEAD + b"content-length: 1\r\ncontent-length: 2\r\n\r\n", 400, "invalid_http"),
        (HEAD + b"content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400, "invalid_http"),
    ],
    ids=["endless", "large", "tls", "two_lengths", "bad_chunk"],
)
def test_what_is_no_request(make_gateway: MakeGateway, hot_path: bool, sent: bytes, status: int, code: str) -> None:
    """Heads beyond the limit and what is no HTTP are told so in the shape of all errors, and nothing is held."""
    gateway = make_gateway(hot_path=hot_path)
    with raw(gateway) as sock:
        sock.sendall(sent)
        answer = rest_of(sock)
    assert answer.split(b" ", 2)[1] == str(status).encode()
    assert f'"code":"{code}"'.encode() in answer
    assert gateway.backend.asked == []


@contextmanager
def idle_connections(gateway: Gateway, count: int) -> Iterator[None]:
    with ExitStack() as stack:
        for _ in range(count):
            sock = stack.enter_context(raw(gateway))
            sock.sendall(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n")
            assert sock.recv(1024).startswith(b"HTTP/1.1 200 ")
        yield


@pytest.mark.owasp("API4:2023")
@BOTH
def test_too_many_connections(make_gateway: MakeGateway, hot_path: bool) -> None:
    """Beyond `connections` a request is a 503 with Retry-After, never a reset; room returns when others leave."""
    gateway = make_gateway(hot_path=hot_path, limits={"connections": 5})
    with idle_connections(gateway, 5), raw(gateway) as sock:
        sock.sendall(request())
        answer = rest_of(sock)
        assert error_in(answer) == (503, "overloaded", "server_error")
        assert b"retry-after: 1" in answer
    eventually(lambda: gateway.post(chat()).status_code == 200)
