"""A gateway in front of a model's server that does what a test tells it, byte for byte."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import httpx
import pytest

from reference_stack.orchestration import ports
from reference_stack.schemas.api.keys import ApiKey, KeyRepository, digest_of
from reference_stack.schemas.api.usage import UsageRepository, UsageRow
from reference_stack.schemas.configuration.api_gateway import ApiGatewaySettings
from reference_stack.services.infrastructure.api_gateway.app import create_app
from reference_stack.services.integration.database.port import RowsRefused
from tests.reference_stack.infrastructure.gateway_processes import Served, served
from tests.reference_stack.infrastructure.scripted_model import (
    DONE,
    ROLE,
    TEXTS,
    USAGE_EVENT,
    WHOLE,
    Backend,
    Script,
    Wire,
    event,
    text_event,
    well,
)
from tests.reference_stack.infrastructure.serving import DEADLINE_S, eventually, serving

if TYPE_CHECKING:
    from tests.reference_stack.infrastructure.limits_cases import Shared
    from tests.reference_stack.infrastructure.retrieval_cases import Library
    from tests.reference_stack.vector_store import VectorStore

# What tests of the gateway need beside it, from the modules that have it.
__all__ = [
    "DEADLINE_S",
    "DONE",
    "ROLE",
    "TEXTS",
    "USAGE_EVENT",
    "WHOLE",
    "Backend",
    "Script",
    "Wire",
    "event",
    "eventually",
    "serving",
    "text_event",
    "well",
]

PEPPER = "a pepper for tests alone"
KEY = "key-of-alice"
PHI3_KEY = "key-of-bob-phi3-only"


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


@pytest.fixture
def shared() -> Shared:
    """A cache and budgets that several processes share."""
    from tests.reference_stack.infrastructure.limits_cases import Shared

    return Shared()


@pytest.fixture(scope="module")
def library(real_vectors: VectorStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """A gateway that searches documents in a real store."""
    from tests.reference_stack.infrastructure.retrieval_cases import library_over

    with library_over(real_vectors, tmp_path_factory.mktemp("library")) as found:
        yield found
