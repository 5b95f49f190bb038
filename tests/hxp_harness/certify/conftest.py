"""Golden servers for tests, and what they are asked."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hxp_harness.certify.behaviour import Behaviour
from hxp_harness.certify.golden_process import GoldenServer, golden

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
