"""Each service before its real server, through every fault of that server: what callers get, and that it heals.

`nox -s faults` lets each fault last longer and prints the recovery times, one line of JSON a cell.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from fastapi import FastAPI

from hxp_harness.faults.proxy import Proxy
from reference_stack.orchestration import ports, readiness
from reference_stack.orchestration.process import bound
from reference_stack.orchestration.readiness import Probe
from reference_stack.schemas.common.program import Program
from reference_stack.schemas.configuration.cache import CacheSettings
from reference_stack.schemas.configuration.configuration import ConfigurationSettings
from reference_stack.schemas.configuration.database import DatabaseSettings
from reference_stack.schemas.configuration.metrics import MetricsSettings
from reference_stack.schemas.configuration.storage import StorageSettings
from reference_stack.schemas.configuration.vector_database import VectorDatabaseSettings
from reference_stack.services.infrastructure import configuration, storage
from reference_stack.services.integration.cache import app as cache
from reference_stack.services.integration.cache import embedded as valkey
from reference_stack.services.integration.database import app as database
from reference_stack.services.integration.database.embedded import EmbeddedPostgres
from reference_stack.services.integration.metrics import app as metrics
from reference_stack.services.integration.metrics import embedded as prometheus
from reference_stack.services.integration.vector_database import app as vector_database
from tests.reference_stack.infrastructure.conftest import serving
from tests.reference_stack.integration.conftest import CACHE

pytestmark = [
    pytest.mark.xdist_group("faults"),  # one server of each kind for all
    # What a reset leaves of a connection in httpx's transport is closed by the collector, and says so.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
LASTS_S = float(os.environ.get("HXP_FAULT_S", "0"))  # the session `faults` makes it ten seconds
DELAY_S = 0.2
CALL_S = 0.5  # what a service waits for its server
ANSWER_S = 60.0  # a busy machine's; what a call may cost is its service's deadlines, which other tests hold
HEALS_S = 60.0  # likewise; after a crash it has the server's own start in it
OURS = ("-m", "reference_stack", "serve")


@dataclass(frozen=True)
class Pair:
    """A service and the server that it leans on.

    `program` is the server's, on one port or two; `app` is the service's, for the proxies before them; `ask` is a call
    that needs the server. One that `remembers` answers while the server is out, from what it was told last.
    """

    program: Callable[[Path, list[int]], tuple[Program, Probe]]
    app: Callable[[list[int]], FastAPI]
    ask: str
    ports: int = 1
    remembers: bool = False


def _postgres(folder: Path, at: list[int]) -> tuple[Program, Probe]:
    where = DatabaseSettings(port=at[0])
    probe = readiness.postgres(where.host, where.port, where.user, where.database)
    return EmbeddedPostgres(where, folder, CACHE).prepare(), probe


def _valkey(folder: Path, at: list[int]) -> tuple[Program, Probe]:
    return valkey.program(CacheSettings(port=at[0]), folder), readiness.redis("127.0.0.1", at[0])


def _prometheus(folder: Path, at: list[int]) -> tuple[Program, Probe]:
    binary = prometheus.find(CACHE)
    if binary is None:
        pytest.skip("not proven: no Prometheus here; hxp-stack tools fetches one")
    program = prometheus.EmbeddedPrometheus(binary, folder).prepare(at[0], {})
    return program, readiness.http(f"http://127.0.0.1:{at[0]}/-/ready")


def _vectors(folder: Path, at: list[int]) -> tuple[Program, Probe]:
    face = ports.reserve()
    face.close()
    said = (f"port={at[0]}", f"grpc_port={at[1]}", f"folder={folder / 'vectors'}")
    words = ("vector_database", "--port", str(face.port), *(part for each in said for part in ("--set", each)))
    return Program((sys.executable, *OURS, *words)), readiness.http(f"http://127.0.0.1:{face.port}/health/ready")


def _configuration(_folder: Path, at: list[int]) -> tuple[Program, Probe]:
    program = Program((sys.executable, *OURS, "configuration", "--port", str(at[0])))
    return program, readiness.http(f"http://127.0.0.1:{at[0]}/health/ready")


_S3 = """
import sys, threading, time, urllib.request
from moto.server import main

def make(bucket):
    while True:  # the server forgets all when it ends, and takes a moment to begin
        try:
            urllib.request.urlopen(urllib.request.Request(bucket, method="PUT"), timeout=5)
            return
        except OSError:
            time.sleep(0.02)  # polls a server that starts; it ends with the process

threading.Thread(target=make, args=(f"http://127.0.0.1:{sys.argv[1]}/faults",), daemon=True).start()
main(["-H", "127.0.0.1", "-p", sys.argv[1]])
"""


def _s3(_folder: Path, at: list[int]) -> tuple[Program, Probe]:
    return Program((sys.executable, "-c", _S3, str(at[0]))), readiness.http(f"http://127.0.0.1:{at[0]}/faults")


PAIRS: Mapping[str, Pair] = {
    "database": Pair(
        _postgres,
        lambda at: database.create_app(
            DatabaseSettings(backend="external", port=at[0], connect_s=CALL_S, acquire_s=CALL_S, command_s=CALL_S)
        ),
        "/v1/usage",
    ),
    "cache": Pair(
        _valkey,
        lambda at: cache.create_app(CacheSettings(backend="external", port=at[0], connect_s=CALL_S, command_s=CALL_S)),
        "/v1/values/x",
    ),
    "metrics": Pair(
        _prometheus,
        lambda at: metrics.create_app(MetricsSettings(backend="external", prometheus_port=at[0], timeout_s=CALL_S)),
        "/v1/query?expression=1",
    ),
    "vector_database": Pair(
        _vectors,
        lambda at: vector_database.create_app(
            VectorDatabaseSettings(backend="external", port=at[0], grpc_port=at[1], timeout_s=CALL_S)
        ),
        "/v1/collections",
        ports=2,
    ),
    "configuration": Pair(
        _configuration,
        lambda at: configuration.create_app(
            ConfigurationSettings.model_validate(
                {"backend": "external", "url": f"http://127.0.0.1:{at[0]}", "watch_s": 0.05, "timeout_s": CALL_S}
            ),
            {},
        ),
        "/configuration/cache",
        remembers=True,
    ),
    "storage": Pair(
        _s3,
        lambda at: storage.create_app(
            StorageSettings.model_validate(
                {
                    "backend": "external",
                    "url": "s3://faults/runs",
                    "endpoint": f"http://127.0.0.1:{at[0]}",
                    "access_key": "tests",
                    "secret_key": "tests",  # pragma: allowlist secret
                    "timeout_s": CALL_S,
                }
            )
        ),
        "/store",
    ),
}


@dataclass
class Server:
    """A real server of one kind behind proxies, which can be hurt at will."""

    pair: Pair
    folder: Path
    exits: ExitStack
    proxies: list[Proxy] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        reserved = [self.exits.enter_context(_reserved()) for _ in range(self.pair.ports)]
        self.program, self.probe = self.pair.program(self.folder, reserved)
        self.proxies = [self.exits.enter_context(Proxy(("127.0.0.1", port))) for port in reserved]
        self.exits.callback(self.end, signal.SIGKILL)
        self.start()
        within(HEALS_S, lambda: not asyncio.run(_asked(self.probe)))

    def start(self) -> None:
        program = self.program
        with (self.folder / "log").open("ab") as log:
            environment = {**os.environ, **program.environment}
            argv = bound(program.argv, os.getpid())
            self.process = subprocess.Popen(argv, stdout=log, stderr=log, env=environment, user=program.user_id)

    def end(self, number: int) -> None:
        """End it as `number` does, and wait for its family: PostgreSQL's helpers hold its memory."""
        assert self.process is not None
        if self.process.poll() is None:
            family = psutil.Process(self.process.pid).children(recursive=True)
            self.process.send_signal(number)
            self.process.wait(30)
            psutil.wait_procs(family, 30)

    @contextmanager
    def down(self) -> Iterator[None]:
        with self._poisoned("down"):
            yield

    @contextmanager
    def hung(self) -> Iterator[None]:
        with self._poisoned("timeout"), self._poisoned("timeout", stream="upstream"):
            yield

    @contextmanager
    def slow(self) -> Iterator[None]:
        with self._poisoned("latency", delay_s=DELAY_S):
            yield

    @contextmanager
    def crash(self) -> Iterator[None]:
        self.end(signal.SIGKILL)
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def _poisoned(self, kind: str, **how: Any) -> Iterator[None]:
        with ExitStack() as stack:
            for proxy in self.proxies:
                stack.enter_context(proxy.toxic(kind, **how))
            yield


async def _asked(probe: Probe) -> str:
    return await probe()


@contextmanager
def _reserved() -> Iterator[int]:
    reservation = ports.reserve()
    try:
        yield reservation.port
    finally:
        reservation.close()


@pytest.fixture(scope="module", params=PAIRS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server of one service."""
    with ExitStack() as exits:
        yield Server(PAIRS[request.param], tmp_path_factory.mktemp(request.param), exits)


@contextmanager
def service(server: Server) -> Iterator[httpx.Client]:
    app = server.pair.app([proxy.port for proxy in server.proxies])
    with serving(app) as url, httpx.Client(base_url=url, timeout=ANSWER_S, trust_env=False) as http:
        yield http


def within(limit_s: float, condition: Callable[[], bool]) -> float:
    """Wait until `condition` holds; return how long that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + limit_s, "it never came true"
        time.sleep(0.005)  # polls a condition, with a deadline
    return time.monotonic() - began


def healed_s(http: httpx.Client, ask: str) -> float:
    return within(HEALS_S, lambda: http.get("/health/ready").status_code == 200 and http.get(ask).status_code < 500)


def is_out(http: httpx.Client, pair: Pair, *, knew: bool) -> None:
    """It lives, says why it is not well, and refuses with a time to come again: or answers from what it knew."""
    said: dict[str, Any] = {}

    def told() -> bool:
        said.update(http.get("/health").json())
        return bool(said["status"] == ("degraded" if knew else "unready"))

    within(ANSWER_S, told)
    assert all(said["dependencies"].values())
    assert http.get("/health/live").status_code == 200
    answer = http.get(pair.ask)
    assert (answer.status_code, answer.headers.get("retry-after")) == ((200, None) if knew else (503, "1"))


def show(request: pytest.FixtureRequest, fault: str, recovered_s: float) -> None:
    name = request.node.callspec.params["server"]
    print(json.dumps({"service": name, "fault": fault, "lasted_s": LASTS_S, "recovered_s": round(recovered_s, 3)}))


def test_who_starts_before_its_server_serves_when_that_comes(server: Server, request: pytest.FixtureRequest) -> None:
    """A service whose server is down at its start lives, says so and refuses; it serves as soon as the server does."""
    with ExitStack() as out:
        out.enter_context(server.down())
        with service(server) as http:
            is_out(http, server.pair, knew=False)
            out.close()
            show(request, "down at start", healed_s(http, server.pair.ask))


@pytest.mark.parametrize("fault", ["down", "hung", "crash"])
def test_an_outage_is_told_and_heals_by_itself(server: Server, fault: str, request: pytest.FixtureRequest) -> None:
    """While its server is out a service lives, says so and refuses with Retry-After; after that it serves by itself."""
    with service(server) as http:
        healed_s(http, server.pair.ask)
        with getattr(server, fault)():
            is_out(http, server.pair, knew=server.pair.remembers)
            time.sleep(LASTS_S)  # the fault itself
        show(request, fault, healed_s(http, server.pair.ask))


def test_a_slow_server_is_slow_and_no_outage(server: Server) -> None:
    """What its server takes longer for each answer is waited for: the service is ready, and its answers are good."""
    with service(server) as http:
        healed_s(http, server.pair.ask)
        with server.slow():
            within(ANSWER_S, lambda: http.get("/health/ready").status_code == 200)
            costs_s: list[float] = []

            def answered() -> bool:
                began = time.monotonic()
                good = http.get(server.pair.ask).status_code < 500
                costs_s.append(time.monotonic() - began)
                return good

            within(ANSWER_S, answered)
    assert server.pair.remembers or costs_s[-1] >= DELAY_S
