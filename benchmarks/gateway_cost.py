"""What one request costs the gateway in CPU time: `python benchmarks/gateway_cost.py [--requests N] [--stream]`.

Three processes: a model server that answers at once, the gateway, and this one as the client, which keeps a settled
number of requests open. The figure is the gateway's own CPU time (user and system) over the requests it served.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from reference_stack.schemas.api.keys import digest_of

KEY, PEPPER = b"benchmark-key", b"a pepper for benchmarks alone"
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]}\n\n'
LAST = b'data: {"choices":[{"index":0,"delta":{"content":" end"},"finish_reason":"length"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":64,"completion_tokens":16}}\n\n'
EVENTS = (*[EVENT] * 15, LAST, USAGE, b"data: [DONE]\n\n")
WHOLE = (
    b'{"id":"x","choices":[{"index":0,"message":{"content":"%s"}}],"usage":{"prompt_tokens":64,"completion_tokens":16}}'
)


class Model(asyncio.Protocol):
    """Answers each POST at once; a stream goes out as one write an event."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._held = b""

    def data_received(self, data: bytes) -> None:
        self._held += data
        head, found, body = self._held.partition(b"\r\n\r\n")
        if not found:
            return
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        if len(body) < length:
            return
        self._held = body[length:]
        if b'"stream": true' not in body:
            answer = WHOLE % (b"word " * 16)
            self._transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(answer)
                + answer
            )
            return
        self._transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        for event in EVENTS:
            self._transport.write(b"%x\r\n%s\r\n" % (len(event), event))
        self._transport.write(b"0\r\n\r\n")


async def serve_model(sock: socket.socket) -> None:
    server = await asyncio.get_running_loop().create_server(Model, sock=sock)
    await server.serve_forever()


async def client(port: int, request: bytes, count: list[int], took_s: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while count[0] > 0:
        count[0] -= 1
        began_s = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        if b"chunked" in head:
            await reader.readuntil(b"\r\n0\r\n\r\n")
        else:
            length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(length)
        took_s.append(time.perf_counter() - began_s)
    writer.close()


async def load(port: int, request: bytes, requests: int, open_at_once: int) -> list[float]:
    took_s: list[float] = []
    count = [requests]
    await asyncio.gather(*(client(port, request, count, took_s) for _ in range(open_at_once)))
    return took_s


def listening() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(1024)
    return sock


def start_gateway(folder: Path, model_port: int, sock: socket.socket, *, hot_path: bool) -> subprocess.Popen[bytes]:
    (folder / "pepper").write_bytes(PEPPER)
    settings = {
        "upstreams": {"mixtral": {"base_url": f"http://127.0.0.1:{model_port}/v1"}},
        "keys": [{"id": "benchmark", "hash": digest_of(KEY, PEPPER).hex()}],
        "pepper_file": str(folder / "pepper"),
        "hot_path": hot_path,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    argv = [sys.executable, "-m", "reference_stack", "serve", "api_gateway"]
    argv += ["--settings", str(folder / "settings.json"), "--fd", str(sock.fileno())]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(argv, pass_fds=[sock.fileno()], stderr=log)


def cpu_s(pid: int) -> float:
    """Return what the process and its workers have used, user and system."""
    parent = psutil.Process(pid)
    times = [each.cpu_times() for each in (parent, *parent.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--open", type=int, default=16)
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--fastapi", action="store_true", help="without the hot path")
    options = parser.parse_args()
    body = json.dumps(
        {
            "model": "mixtral",
            "messages": [{"role": "user", "content": "word " * 180}],
            "max_tokens": 16,
            "stream": options.stream,
        }
    ).encode()
    request = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %s\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (KEY, len(body), body)
    )
    with tempfile.TemporaryDirectory() as folder, listening() as sock, listening() as model_sock:
        model = os.fork()
        if model == 0:
            asyncio.run(serve_model(model_sock))
        gateway = start_gateway(Path(folder), model_sock.getsockname()[1], sock, hot_path=not options.fastapi)
        try:
            port = sock.getsockname()[1]
            asyncio.run(load(port, request, options.requests // 10, options.open))
            before_s = cpu_s(gateway.pid)
            began_s = time.perf_counter()
            took_s = sorted(asyncio.run(load(port, request, options.requests, options.open)))
            wall_s = time.perf_counter() - began_s
            after_s = cpu_s(gateway.pid)
        finally:
            gateway.terminate()
            gateway.wait(20)
            os.kill(model, signal.SIGKILL)
            os.waitpid(model, 0)
    cpu_us = (after_s - before_s) / options.requests * 1e6
    p99_ms = took_s[int(0.99 * len(took_s))] * 1e3
    rate_rps = options.requests / wall_s
    print(f"{cpu_us:.0f} us CPU a request, {rate_rps:.0f} requests/s, p99 {p99_ms:.1f} ms at {options.open} open")
    return 0


if __name__ == "__main__":
    sys.exit(main())
