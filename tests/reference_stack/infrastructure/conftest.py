"""A model's server that does what a test tells it, byte for byte, and a gateway in front of it."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self, TypeVar
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn
from starlette.types import ASGIApp

from reference_stack.draining import uvicorn_config
from reference_stack.orchestration import ports
from reference_stack.schemas.api.keys import ApiKey, KeyRepository, digest_of
from reference_stack.schemas.api.usage import UsageRepository, UsageRow
from reference_stack.schemas.configuration.api_gateway import ApiGatewaySettings
from reference_stack.services.infrastructure.api_gateway.app import create_app
from reference_stack.services.integration.database.port import RowsRefused
from tests.reference_stack.infrastructure.gateway_processes import Served, served

DEADLINE_S = 60.0
PEPPER = "a pepper for tests alone"
KEY = "key-of-alice"
PHI3_KEY = "key-of-bob-phi3-only"

T = TypeVar("T")


def eventually(read: Callable[[], T], *, within_s: float = DEADLINE_S) -> T:
    """Return the first truthy value that `read` gives, or fail."""
    ends = time.monotonic() + within_s
    while True:
        found = read()
        if found:
            return found
        assert time.monotonic() < ends, "it never came true"
        time.sleep(0.005)  # polls a condition, with a deadline


@contextmanager
def serving(app: ASGIApp) -> Iterator[str]:
    """Serve `app` on a free port under a real uvicorn; yield its base URL."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(4096)
        config = uvicorn_config(app)
        config.timeout_graceful_shutdown = 2
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        try:
            eventually(lambda: server.started or not thread.is_alive())
            assert server.started, "the application did not start"
            yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(DEADLINE_S)
            assert not thread.is_alive()


@dataclass
class Asked:
    """One request as a scripted server saw it."""

    path: str
    headers: dict[str, str]
    body: bytes
    client_port: int
    gone_at_s: float | None = None

    @property
    def json(self) -> dict[str, object]:
        found = json.loads(self.body)
        assert isinstance(found, dict)
        return found


class Wire:
    """The open connection of one request, for a script to write on."""

    def __init__(
        self, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, keeps: bool
    ) -> None:
        self.asked = asked
        self.keeps = keeps
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def head(self, status: int = 200, kind: str = "application/json", *more: str) -> None:
        closes = () if self.keeps else ("connection: close",)
        lines = [f"HTTP/1.1 {status} X", f"content-type: {kind}", *more, *closes]
        await self.send("\r\n".join([*lines, "", ""]).encode())

    async def answer(self, body: bytes, status: int = 200, kind: str = "application/json", *more: str) -> None:
        await self.head(status, kind, f"content-length: {len(body)}", *more)
        await self.send(body)

    async def stream(self, *parts: bytes) -> None:
        """Begin an event stream and send each part as a chunk of its own, one read apart."""
        await self.head(200, "text/event-stream; charset=utf-8", "transfer-encoding: chunked")
        for part in parts:
            await self.chunk(part)

    async def chunk(self, data: bytes) -> None:
        await self.send(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await asyncio.sleep(0.002)

    async def end(self) -> None:
        await self.send(b"0\r\n\r\n")

    async def wait_gone(self) -> None:
        """Wait for the other side to close, and note when it did."""
        try:
            while await self._reader.read(1024):
                pass
        except OSError:
            pass
        self.asked.gone_at_s = time.monotonic()


Script = Callable[[Wire], Awaitable[None]]


def event(data: object) -> bytes:
    return b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n"


def text_event(text: str, finish: str | None = None) -> bytes:
    return event(
        {
            "object": "chat.completion.chunk",
            "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}],
        }
    )


USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
ROLE = event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
TEXTS = (ROLE, text_event("one"), text_event(" two"), text_event(" thrée", "length"))
USAGE_EVENT = event({"choices": [], "usage": USAGE})
DONE = event(b"[DONE]")
WHOLE = json.dumps({"id": "x", "choices": [{"index": 0, "message": {"content": "one two"}}], "usage": USAGE}).encode()


async def well(wire: Wire) -> None:
    """Answer as vLLM does."""
    if not wire.asked.json.get("stream"):
        await wire.answer(WHOLE)
        return
    options = wire.asked.json.get("stream_options")
    wanted = isinstance(options, dict) and options.get("include_usage")
    await wire.stream(*TEXTS, *([USAGE_EVENT] if wanted else []), DONE)
    await wire.end()


class Backend:
    """A scripted model server on a free port, on a thread of its own."""

    def __init__(self) -> None:
        self.script: Script = well
        self.healthy = True
        self.asked: list[Asked] = []
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(DEADLINE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()

    def call(self, function: Callable[[], object]) -> None:
        """Call `function` on the server's own loop."""
        self._loop.call_soon_threadsafe(function)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self._open: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=4096)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        self._started.set()
        await self._stop.wait()
        server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(task)
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        path = head[0].split(" ")[1]
        if path == "/health":
            writer.write(b"HTTP/1.1 %d X\r\ncontent-length: 0\r\n\r\n" % (200 if self.healthy else 503))
            return True
        asked = Asked(
            path,
            headers,
            await reader.readexactly(int(headers.get("content-length", "0"))),
            writer.get_extra_info("peername")[1],
        )
        self.asked.append(asked)
        script = self.script
        wire = Wire(asked, reader, writer, keeps=script is well)
        await script(wire)
        return wire.keeps


@dataclass
class Rows(UsageRepository):
    """Keeps usage rows in memory; raises while `out`, and refuses those of the client ids in `bad`."""

    rows: list[UsageRow] = field(default_factory=list)
    out: bool = False
    bad: set[str] = field(default_factory=set)

    async def add(self, rows: Sequence[UsageRow]) -> None:
        if self.out:
            raise ConnectionError("the database is out")
        self.rows.extend(row for row in rows if row.client_request_id not in self.bad)
        refused = [row for row in rows if row.client_request_id in self.bad]
        if refused:
            raise RowsRefused(refused, "told to")

    def last(self, count: int = 1) -> UsageRow:
        eventually(lambda: len(self.rows) >= count)
        return self.rows[-1]


@dataclass
class Gateway:
    """A gateway that serves, with the model server behind it and the usage rows that it wrote."""

    url: str
    backend: Backend
    usage: Rows
    http: httpx.Client

    def post(self, body: object, path: str = "/v1/chat/completions", **headers: str) -> httpx.Response:
        return self.http.post(path, content=body if isinstance(body, bytes) else json.dumps(body), headers=headers)


def metrics(gateway: Gateway) -> str:
    """The gateway's metrics page."""
    return gateway.http.get("/metrics").text


@contextmanager
def raw(gateway: Gateway) -> Iterator[socket.socket]:
    """A connection to the gateway that a test reads and writes by hand."""
    parts = urlsplit(gateway.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=DEADLINE_S) as sock:
        yield sock


def exchange(gateway: Gateway, head: list[bytes], body: bytes = b"") -> tuple[int, dict[str, object]]:
    """Send these lines as they are; return the status and the error of the answer."""
    with raw(gateway) as sock:
        lines = [*head, b"connection: close", b"content-length: %d" % len(body)]
        sock.sendall(b"\r\n".join([*lines, b"", body]))
        answer = b""
        while part := sock.recv(65536):
            answer += part
    assert b"content-type: application/json\r\n" in answer
    found = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    assert isinstance(found, dict)
    return int(answer.split(b" ")[1]), found


def chat(**more: object) -> dict[str, object]:
    return {"model": "mixtral", "messages": [{"role": "user", "content": "say one two"}], **more}


def key_row(name: str, key: str, **more: object) -> dict[str, object]:
    """A key as the settings hold it."""
    return {"id": name, "hash": digest_of(key.encode(), PEPPER.encode()).hex(), **more}


ALICE = (key_row("alice", KEY, tenant="red"),)
BOB = (key_row("bob", PHI3_KEY, models=["phi3"]),)


class MakeGateway(Protocol):
    """`key_rows` and `settings` are the gateway's settings; `keys` is the repository beside them."""

    def __call__(
        self,
        *,
        keys: KeyRepository | None = None,
        key_rows: Sequence[dict[str, object]] = (*ALICE, *BOB),
        **settings: object,
    ) -> Gateway: ...


@pytest.fixture
def backend() -> Iterator[Backend]:
    with Backend() as found:
        yield found


@contextmanager
def gateways(backend: Backend, folder: Path) -> Iterator[MakeGateway]:
    pepper = folder / "pepper"
    pepper.write_text(PEPPER)
    with ExitStack() as stack:

        def make(
            *,
            keys: KeyRepository | None = None,
            key_rows: Sequence[dict[str, object]] = (*ALICE, *BOB),
            **settings: object,
        ) -> Gateway:
            said = {
                "upstreams": {"mixtral": {"base_url": backend.url}, "phi3": {"base_url": backend.url}},
                "pepper_file": str(pepper),
                "keys": key_rows,
            }
            rows = Rows()
            app = create_app(
                ApiGatewaySettings.model_validate(said | settings), key_repository=keys, usage_repository=rows
            )
            url = stack.enter_context(serving(app))
            headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
            http = stack.enter_context(httpx.Client(base_url=url, headers=headers, timeout=DEADLINE_S))
            return Gateway(url, backend, rows, http)

        yield make


@pytest.fixture
def make_gateway(backend: Backend, tmp_path: Path) -> Iterator[MakeGateway]:
    """Make gateways before `backend` as mixtral and phi3; what is given overrides the settings."""
    with gateways(backend, tmp_path) as make:
        yield make


@pytest.fixture(scope="session")
def shared_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Backend() as backend, gateways(backend, tmp_path_factory.mktemp("gateway")) as make:
        yield make()


@pytest.fixture
def gateway(shared_gateway: Gateway) -> Gateway:
    """The gateway of default settings, as if it had just started."""
    eventually(lambda: "hxp_gateway_in_flight 0.0" in shared_gateway.http.get("/metrics").text)
    shared_gateway.backend.script = well
    shared_gateway.backend.healthy = True
    shared_gateway.backend.asked.clear()
    shared_gateway.usage.rows.clear()
    shared_gateway.usage.out = False
    return shared_gateway


def key_of(name: str, *models: str) -> ApiKey:
    """The key `name` as a repository would hold it."""
    return ApiKey(name, digest_of(name.encode(), PEPPER.encode()), frozenset(models or ("*",)))


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway that outlives a test: whoever uses it leaves two workers that serve."""
    with Backend() as backend, served(tmp_path_factory.mktemp("standing"), backend.url) as gateway:
        yield gateway


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The URL of an S3-compatible server of this session's own."""
    from tests.reference_stack.infrastructure.s3 import s3_server

    with closing(ports.reserve()) as reservation, s3_server(reservation.port) as url:
        yield url
