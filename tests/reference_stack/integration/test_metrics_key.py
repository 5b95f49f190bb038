"""Prometheus reads the metrics of a gateway that wants a key, and no file that others read has the key in it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pydantic import SecretStr

from reference_stack.orchestration import metering, ports, readiness
from reference_stack.schemas.common.program import Program
from reference_stack.schemas.configuration.metrics import MetricsSettings
from reference_stack.services.integration.metrics import embedded
from reference_stack.services.integration.metrics.client import PrometheusMetrics
from tests.reference_stack.infrastructure.conftest import eventually
from tests.reference_stack.integration.conftest import CACHE

Start = Callable[[Program, readiness.Probe, Path], "subprocess.Popen[bytes]"]
KEY = "a-key-of-metrics"


class Guarded(BaseHTTPRequestHandler):
    """A page of metrics for who has the key, as the gateway's is."""

    def do_GET(self) -> None:
        known = self.headers["Authorization"] == f"Bearer {KEY}"
        body = b"things 7\n" if known else b""
        self.send_response(200 if known else 401)
        self.send_header("content-type", "text/plain; version=0.0.4")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@contextmanager
def guarded() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Guarded)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_prometheus_shows_the_key_that_a_gateway_wants(
    tmp_path: Path, start: Start, reserved: ports.Reservation
) -> None:
    """With the key its job is up and its figures are there; one without is refused. The key has a file of our own."""
    binary = embedded.find(CACHE)
    if binary is None:
        pytest.skip("no Prometheus here: hxp-stack tools fetches one")
    with guarded() as port:
        program = embedded.EmbeddedPrometheus(binary, tmp_path).prepare(
            reserved.port, {"api_gateway": port, "cache": port}, interval_s=1, keys={"api_gateway": SecretStr(KEY)}
        )
        start(program, readiness.http(f"http://127.0.0.1:{reserved.port}/-/ready"), tmp_path / "log")
        settings = MetricsSettings(prometheus_port=reserved.port, timeout_s=10)
        eventually(lambda: set(_up(settings)) == {("api_gateway", 1.0), ("cache", 0.0)})

    having = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.rglob("*") if KEY.encode() in _read(file)}
    assert having == {"api_gateway-metrics.key": 0o600}


def _up(settings: MetricsSettings) -> list[tuple[str, float]]:
    async def ask() -> list[tuple[str, float]]:
        store = PrometheusMetrics(settings)
        try:
            return [(series.labels["job"], series.points[0][1]) for series in await store.query("up")]
        finally:
            await store.close()

    return asyncio.run(ask())


def _read(file: Path) -> bytes:
    return file.read_bytes() if file.is_file() else b""


def test_the_configuration_for_a_prometheus_of_others_names_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`hxp-stack metrics scrape` names the file of the key, says what belongs there, and never tells the key."""
    assignments = (f"api_gateway.metrics.key={KEY}",)
    metering.run(metering.Asked("scrape", out=tmp_path, assignments=assignments))

    text = (tmp_path / "prometheus.json").read_text()
    jobs = {job["job_name"]: job for job in json.loads(text)["scrape_configs"]}
    assert jobs["api_gateway"]["authorization"] == {"type": "Bearer", "credentials_file": "api_gateway-metrics.key"}
    assert all("authorization" not in job for name, job in jobs.items() if name != "api_gateway")
    said = capsys.readouterr()
    assert "metrics.key into api_gateway-metrics.key" in said.err
    assert KEY not in text + said.out + said.err
