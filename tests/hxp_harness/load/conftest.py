"""A server on a real socket that does exactly what a test tells it to."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from hxp_harness.load.client import Client
from hxp_harness.load.connection import Address, Receipts
from hxp_harness.load.conversation import follow
from hxp_harness.load.generator import render
from hxp_harness.load.plan import Due, LoadPlan
from hxp_harness.load.request import Renderer
from hxp_harness.load.stamps import WallOffset, stamping
from hxp_harness.trace import Trace

STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def event(message: object) -> bytes:
    """Return a server-sent event with `message` as JSON, or as it is when it is bytes."""
    return b"data: " + (message if isinstance(message, bytes) else json.dumps(message).encode()) + b"\n\n"


def token(text: str = " w", **more: object) -> dict[str, object]:
    """Return a chat chunk with content."""
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}], **more}


ROLE = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]}
FINISH = {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}


def usage(output_tokens: int, prompt_tokens: int = 7) -> dict[str, object]:
    """Return the last chunk of a stream, which has the usage."""
    return {"choices": [], "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": output_tokens}}


def events(tokens: int) -> list[bytes]:
    """Return the events of a whole answer."""
    return [
        event(ROLE),
        *[event(token()) for _ in range(tokens)],
        event(FINISH),
        event(usage(tokens)),
        event(b"[DONE]"),
    ]


def chunk(part: bytes) -> bytes:
    """Return `part` as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(part), part)


def stream(parts: list[bytes]) -> bytes:
    """Return a whole streamed response, one chunk for each part."""
    return STREAM_HEAD + b"".join(map(chunk, parts)) + LAST_CHUNK


def response(body: object, status: str = "200 OK", more: str = "") -> bytes:
    """Return a whole response with a JSON body, or with `body` as it is when it is bytes."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n{more}\r\n"
    return head.encode() + text


def completion(tokens: int = 4, prompt_tokens: int = 7) -> dict[str, object]:
    """Return the body of an answer that is not streamed."""
    return {
        "choices": [{"index": 0, "message": {"content": "w " * tokens}, "finish_reason": "length"}],
        "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": tokens},
    }


@dataclass
class Request:
    """What the server received."""

    line: str
    headers: dict[str, str]
    body: dict[str, object]


@dataclass
class Peer:
    """The server's end of one connection."""

    socket: socket.socket
    number: int  # of the connection, from 0
    server: Server

    def request(self) -> Request | None:
        """Return the next request, or None when the client is gone."""
        received = b""
        while b"\r\n\r\n" not in received:
            part = self.socket.recv(65536)
            if not part:
                return None
            received += part
        head, _, body = received.partition(b"\r\n\r\n")
        line, *rest = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (item.partition(": ") for item in rest)}
        while len(body) < int(headers.get("content-length", 0)):
            body += self.socket.recv(65536)
        request = Request(line, headers, json.loads(body) if body else {})
        self.server.requests.append(request)
        return request

    def send(self, text: bytes) -> None:
        self.socket.sendall(text)

    def reset(self) -> None:
        """Close with a TCP reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def wait_until_gone(self) -> None:
        """Return when the client has closed its end."""
        while self.socket.recv(65536):
            pass


Script = Callable[[Peer], None]


@dataclass
class Server:
    """Listens on a free port; each connection is served by `script` in a thread of its own."""

    script: Script
    tls: ssl.SSLContext | None = None
    requests: list[Request] = field(default_factory=list)
    connections: int = 0

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._peers: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.port: int = self._listener.getsockname()[1]
        self.host = "localhost" if self.tls else "127.0.0.1"
        self.base_url = f"{'https' if self.tls else 'http'}://{self.host}:{self.port}/v1"
        self._acceptor = threading.Thread(target=self._accept)
        self._acceptor.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(sock, self.connections))
                self.connections += 1
                self._peers.append(sock)
                self._threads.append(thread)
                thread.start()

    def _serve(self, raw: socket.socket, number: int) -> None:
        with raw, contextlib.suppress(OSError):
            sock = self.tls.wrap_socket(raw, server_side=True) if self.tls else raw
            with sock:
                self._peers.append(sock)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.script(Peer(sock, number, self))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join()
        for sock in self._peers:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()


ServerFactory = Callable[..., Server]


@pytest.fixture
def serve() -> Iterator[ServerFactory]:
    """Start a server for a script; every one is closed when the test ends."""
    with contextlib.ExitStack() as stack:

        def start(script: Script, tls: ssl.SSLContext | None = None) -> Server:
            server = Server(script, tls)
            stack.callback(server.close)
            return server

        yield start


def answering(reply: bytes) -> Script:
    """Answer every request of a connection with `reply`."""

    def script(peer: Peer) -> None:
        while peer.request():
            peer.send(reply)

    return script


def plan_for(base_url: str, *, stream: bool = True, timeout_s: float = 10.0, api: str = "chat") -> LoadPlan:
    """Return a plan against `base_url`."""
    return LoadPlan(base_url, "m", api, stream, timeout_s)


def dues(count: int, gap_s: float = 0.0, tokens: int = 4) -> list[Due]:
    """Return a schedule of `count` requests, `gap_s` seconds apart."""
    return [Due(index, 0, index * gap_s, 16, tokens, seed=index) for index in range(count)]


@pytest.fixture
def greenlets_are_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let coverage see what runs in greenlets of the programs that a test starts.

    Asked of every program, it takes the tests a third more CPU; Locust's are the only ones that have any.
    """
    if config := os.environ.get("COVERAGE_PROCESS_CONFIG"):
        told = json.loads(base64.b64decode(config)) | {"concurrency": ["greenlet", "thread"]}
        monkeypatch.setenv("COVERAGE_PROCESS_CONFIG", base64.b64encode(json.dumps(told).encode()).decode())


DEADLINE_S = 60.0  # for what takes a second on an idle machine


@contextlib.contextmanager
def killed_at_the_end(process: subprocess.Popen[Any]) -> Iterator[None]:
    """Leave no process behind when a test fails."""
    try:
        yield
    finally:
        process.kill()


@pytest.fixture(scope="module")
def kernel_stamps() -> Iterator[None]:
    """Have the kernel stamp what comes while the tests of a module run."""
    with stamping() as stamped:
        assert stamped
        yield


def send(
    port: int,
    schedule: Sequence[Due],
    *,
    plan: LoadPlan | None = None,
    tls: ssl.SSLContext | None = None,
    receipts: Receipts | None = None,
    t0_ns: int | None = None,
) -> list[Trace]:
    """Send `schedule` to a port of this machine; return the traces in the order of the schedule.

    Times in them count from `t0_ns` on the monotonic clock, by default from when all is ready.
    """
    plan = plan or plan_for(f"http://127.0.0.1:{port}/v1")
    renderer = Renderer(plan, "secret", "test")
    traces: list[Trace] = []
    client = Client(
        Address(socket.AF_INET, ("127.0.0.1", port), "localhost", tls),
        render(renderer, schedule),
        receipts or Receipts(WallOffset()),
        plan=plan,
        on_trace=traces.append,
        on_idle=lambda: None,
        follow=partial(follow, renderer),
    )
    client.run(time.monotonic_ns() if t0_ns is None else t0_ns)
    client.close()
    return sorted(traces, key=lambda trace: trace.index)
