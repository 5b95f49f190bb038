"""A gateway in processes of its own, and clients that ask it again and again."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from reference_stack.errors import NotReady
from reference_stack.schemas.api.keys import digest_of
from reference_stack.workers.control import command

WITHIN_S = 15.0
START_S = 60.0  # all of the program is imported, on a machine that may have much else to do
PEPPER = "a pepper for tests alone"
KEY = "key-of-alice"
CHAT = {"model": "mixtral", "messages": [{"role": "user", "content": "say one two"}]}


def until(read: Any, *, within_s: float = WITHIN_S) -> Any:
    """Return the first truthy value of `read`, polled, or fail."""
    ends = time.monotonic() + within_s
    while not (found := read()):
        assert time.monotonic() < ends, "it never came true"
        time.sleep(0.01)  # polls a condition, with a deadline
    return found


@dataclass
class Served:
    """A gateway in processes of its own."""

    process: subprocess.Popen[bytes]
    port: int
    folder: Path
    settings: dict[str, Any]

    @property
    def control(self) -> Path:
        return self.folder / "control"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def write(self, **more: object) -> None:
        """Write its settings file, changed by `more`."""
        self.settings |= more
        (self.folder / "settings.yaml").write_text(json.dumps(self.settings, indent=1))

    def ask(self, word: str) -> dict[str, Any]:
        return command(self.control, word, WITHIN_S)

    def serving(self) -> list[int]:
        """The workers that serve; none while the parent is not there yet."""
        try:
            return [row["pid"] for row in self.ask("status")["workers"] if row["state"] == "serving"]
        except NotReady:
            return []

    def replaced(self, pid: int) -> None:
        """Wait until worker `pid` is gone and another one serves in its place."""
        until(lambda: len(self.serving()) == self.settings["workers"] and pid not in self.serving())

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", trust_env=False, timeout=WITHIN_S)

    def client(self) -> httpx.Client:
        headers = {"authorization": f"Bearer {KEY}"}
        url = f"http://127.0.0.1:{self.port}"
        return httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=WITHIN_S)

    def post(self, body: object) -> httpx.Response:
        with self.client() as client:
            return client.post("/v1/chat/completions", json=body)

    def counts(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(self.get("/metrics").text)
            for sample in family.samples
        }

    def relayed(self) -> float:
        """How many chat requests were answered with 200, as the metrics have it."""
        labels = (("model", "mixtral"), ("route", "/v1/chat/completions"), ("status", "200"))
        return self.counts().get(("hxp_gateway_requests_total", labels), 0.0)


@contextmanager
def served(
    folder: Path, backend_url: str, log: int | None = None, under: Sequence[str] = (), **more: object
) -> Iterator[Served]:
    """A gateway of two workers before the model server at `backend_url`; nothing of it is left at the end.

    Its log is a file in `folder`, or the descriptor `log`. `under` is a program that runs it.
    """
    (folder / "pepper").write_text(PEPPER)
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as sock, (folder / "log").open("wb") as file:
        port = sock.getsockname()[1]
        settings: dict[str, Any] = {
            "workers": 2,
            "upstreams": {"mixtral": {"base_url": backend_url}},
            "pepper_file": str(folder / "pepper"),
            "keys": [{"id": "alice", "hash": digest_of(KEY.encode(), PEPPER.encode()).hex()}],
            # A client that had no core for half a second must not find its connection closed.
            "process": {"control": str(folder / "control"), "drain_s": 20, "idle_s": 10},
        }
        (folder / "settings.yaml").write_text(json.dumps(settings | more, indent=1))
        argv = [*under, sys.executable, "-m", "reference_stack", "serve", "api_gateway", "--fd", str(sock.fileno())]
        argv += ["--settings", str(folder / "settings.yaml")]
        process = subprocess.Popen(argv, pass_fds=[sock.fileno()], stderr=file if log is None else log)
    gateway = Served(process, port, folder, settings | more)
    family: list[psutil.Process] = []
    try:
        wanted = gateway.settings["workers"]
        until(lambda: process.poll() is not None or len(gateway.serving()) == wanted, within_s=START_S)
        assert process.poll() is None, gateway.log
        yield gateway
    finally:
        if process.poll() is None:
            family = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)
        _, left = psutil.wait_procs(family, timeout=5)
        assert left == []


@dataclass
class Load:
    """Clients that ask again and again over connections that they keep, and never ask twice for one answer."""

    port: int
    clients: int = 16
    ended: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    stop: bool = False

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._client()) for _ in range(self.clients)]
        await self.reach(self.clients)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop = True
        await asyncio.gather(*self._tasks)

    async def reach(self, more: int) -> None:
        """Return when `more` further requests were answered well."""
        wanted = self.ended["ok"] + more
        async with asyncio.timeout(60):
            while self.ended["ok"] < wanted:  # noqa: ASYNC110 - clients tell of nothing but their count
                await asyncio.sleep(0.005)

    async def _client(self) -> None:
        body = json.dumps(CHAT).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {KEY}\r\n"
        request = f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
        streams = None
        while not self.stop:
            try:
                if streams is None:
                    streams = await asyncio.open_connection("127.0.0.1", self.port)
                streams[1].write(request)
                answer = await streams[0].readuntil(b"\r\n\r\n")
                length = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                await streams[0].readexactly(length)
            except (OSError, asyncio.IncompleteReadError) as error:
                self.ended["lost"] += 1
                self.errors.append(repr(error))
                if streams is not None:
                    streams[1].close()
                streams = None
                continue
            self.ended["ok" if answer.startswith(b"HTTP/1.1 200") else "refused"] += 1
            if b"connection: close" in answer.lower():
                streams[1].close()
                streams = None
        if streams is not None:
            streams[1].close()


async def stream(port: int, body: dict[str, object]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
    """Begin a stream; return when its first event is there."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sent = json.dumps({**CHAT, "stream": True, **body}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {KEY}\r\n"
    writer.write(f"{head}content-type: application/json\r\ncontent-length: {len(sent)}\r\n\r\n".encode() + sent)
    begun = await reader.readuntil(b"data: ")
    return reader, writer, begun


def held_open(gate: asyncio.Event, well: Any) -> Any:
    """A script of the model server: streams stand still after their first event until `gate` is set."""
    first = b'data: {"choices": [{"index": 0, "delta": {"content": "one"}, "finish_reason": null}]}\n\n'
    last = b'data: {"choices": [{"index": 0, "delta": {"content": " two"}, "finish_reason": "stop"}]}\n\n'

    async def script(wire: Any) -> None:
        if not wire.asked.json.get("stream"):
            await well(wire)
            return
        await wire.stream(first)
        await gate.wait()
        for part in (last, b"data: [DONE]\n\n"):
            await wire.send(b"%x\r\n%b\r\n" % (len(part), part))
        await wire.end()

    return script


def refused(port: int) -> bool:
    """Whether nobody listens any more."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0
