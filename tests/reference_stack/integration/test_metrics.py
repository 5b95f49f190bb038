"""The contract of the metrics, held by the canned ones and by a real Prometheus alike, and its wire."""

from __future__ import annotations

import json
import math
import os
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from reference_stack.errors import NotReady
from reference_stack.schemas.configuration.metrics import MetricsSettings
from reference_stack.services.integration.metrics import embedded
from reference_stack.services.integration.metrics.client import PrometheusMetrics
from reference_stack.services.integration.metrics.memory import MemoryMetrics
from reference_stack.services.integration.metrics.port import (
    Firing,
    Metrics,
    QueryRefused,
    ScrapeTarget,
    Series,
    Unavailable,
)


@pytest.fixture(params=["mock", "embedded", "external"])
async def metrics(request: pytest.FixtureRequest) -> AsyncIterator[Metrics]:
    """Metrics on each leg: canned, our own, and one that somebody else runs (HXP_TEST_PROMETHEUS_URL)."""
    if request.param == "mock":
        store: Metrics = MemoryMetrics()
    elif request.param == "embedded":
        store = PrometheusMetrics(request.getfixturevalue("prometheus"))
    else:
        ours = os.environ.get("HXP_TEST_PROMETHEUS_URL") or request.getfixturevalue("prometheus").prometheus_url
        parts = urlsplit(ours)
        said = {"backend": "external", "prometheus_host": parts.hostname, "prometheus_port": parts.port or 9090}
        store = PrometheusMetrics(MetricsSettings.model_validate({**said, "timeout_s": 10}))
    yield store
    await store.close()


async def test_a_constant_has_one_value(metrics: Metrics) -> None:
    """The expression 1 is one series without labels, of one point, worth 1."""
    (series,) = await metrics.query("1")
    assert series.labels == {}
    assert [value for _, value in series.points] == [1.0]
    assert await metrics.ping() == ""


async def test_what_nobody_measured_has_no_series(metrics: Metrics) -> None:
    """An unknown metric is an empty answer, not an error."""
    assert await metrics.query("no_such_metric") == []
    assert await metrics.query_range("no_such_metric", 0, 60, 15) == []


async def test_a_wrong_expression_is_refused(metrics: Metrics) -> None:
    """What is no expression is refused, and so is a step of nothing."""
    with pytest.raises(QueryRefused):
        await metrics.query("rate(x[5m]")
    with pytest.raises(QueryRefused):
        await metrics.query_range("1", 0, 60, 0)


async def test_targets_are_listed(metrics: Metrics) -> None:
    """Targets come in the order of their jobs."""
    rows = await metrics.targets()
    assert [row.job for row in rows] == sorted(row.job for row in rows)


async def test_alerts_are_listed(metrics: Metrics) -> None:
    """Alerts come in the order of their names."""
    rows = await metrics.alerts()
    assert [row.name for row in rows] == sorted(row.name for row in rows)


async def test_canned_series_are_cut_to_the_question() -> None:
    """The canned metrics answer with the last point, or with those of the range."""
    metrics = MemoryMetrics()
    metrics.answers["up"] = [Series({"job": "x"}, ((1.0, 0.0), (2.0, 1.0), (3.0, 1.0)))]
    metrics.scraped = [ScrapeTarget("b", "http://b", True), ScrapeTarget("a", "http://a", False, "down")]
    assert await metrics.query("up") == [Series({"job": "x"}, ((3.0, 1.0),))]
    assert await metrics.query_range("up", 1, 2, 1) == [Series({"job": "x"}, [(1.0, 0.0), (2.0, 1.0)])]
    assert [row.job for row in await metrics.targets()] == ["a", "b"]
    metrics.firing = [Firing("B", {}, "b", 1.0), Firing("A", {}, "a", 2.0)]
    assert [row.name for row in await metrics.alerts()] == ["A", "B"]
    metrics.outage = True
    assert await metrics.ping()
    for call in (metrics.query("up"), metrics.targets()):
        with pytest.raises(Unavailable):
            await call


def answering(status: int, body: str) -> PrometheusMetrics:
    transport = httpx.MockTransport(lambda _request: httpx.Response(status, text=body))
    return PrometheusMetrics(MetricsSettings(), transport=transport)


def success(data: object) -> str:
    return json.dumps({"status": "success", "data": data})


async def test_every_shape_of_answer_is_read() -> None:
    """Scalars, vectors and matrices become series, values as text included."""
    point = [1.5, "NaN"]
    vector = answering(200, success({"resultType": "vector", "result": [{"metric": {"a": "b"}, "value": point}]}))
    (series,) = await vector.query("x")
    assert series.labels == {"a": "b"}
    assert math.isnan(series.points[0][1])
    scalar = answering(200, success({"resultType": "scalar", "result": [1.5, "+Inf"]}))
    assert (await scalar.query("x"))[0].points == ((1.5, math.inf),)
    matrix = answering(
        200, success({"resultType": "matrix", "result": [{"metric": {}, "values": [[1, "2"], [2, "3"]]}]})
    )
    assert (await matrix.query_range("x", 1, 2, 1))[0].points == ((1.0, 2.0), (2.0, 3.0))
    row = {"labels": {"job": "j"}, "scrapeUrl": "http://x/metrics", "health": "down", "lastError": "refused"}
    targets = answering(200, success({"activeTargets": [row]}))
    assert await targets.targets() == [ScrapeTarget("j", "http://x/metrics", False, "refused")]
    alert = {"labels": {"alertname": "A", "x": "y"}, "annotations": {"summary": "s"}, "state": "pending"}
    alerts = answering(200, success({"alerts": [alert | {"activeAt": "1970-01-01T00:00:09.5Z", "value": "1"}]}))
    assert await alerts.alerts() == [Firing("A", {"x": "y"}, "s", 9.5, firing=False)]
    for store in (vector, scalar, matrix, targets, alerts):
        await store.close()


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (200, "<html>", "not Prometheus"),
        (200, "[]", "not Prometheus"),
        (200, '{"status": "fine"}', "not Prometheus"),
        (200, success({"resultType": "tensor"}), "not Prometheus"),
        (422, '{"status": "error", "errorType": "execution", "error": "too many samples"}', "too many samples"),
    ],
)
async def test_a_strange_answer_is_unavailable(status: int, body: str, message: str) -> None:
    """What is not Prometheus's answer, or is its own failure, is Unavailable with a reason."""
    store = answering(status, body)
    with pytest.raises(Unavailable, match=message):
        await store.query("x")
    assert message in await store.ping()
    if "error" not in body:
        with pytest.raises(Unavailable):
            await store.targets()
    await store.close()


@pytest.mark.parametrize(
    ("error", "message"), [(httpx.ReadTimeout("slow"), "in time"), (httpx.ConnectError("no"), "ConnectError")]
)
async def test_no_answer_is_unavailable(error: httpx.HTTPError, message: str) -> None:
    """A deadline passed or a connection refused is Unavailable."""

    def fail(_request: httpx.Request) -> httpx.Response:
        raise error

    store = PrometheusMetrics(MetricsSettings(), transport=httpx.MockTransport(fail))
    with pytest.raises(Unavailable, match=message):
        await store.query("x")
    await store.close()


def test_every_service_is_a_job() -> None:
    """The scrape configuration has one job a service, on its own port, with its name as a label."""
    written = embedded.configuration({"mixtral": 11400, "cache": 8085}, interval_s=3)
    assert written["global"] == {"scrape_interval": "3s", "scrape_timeout": "3s", "evaluation_interval": "3s"}
    jobs = written["scrape_configs"]
    assert isinstance(jobs, list)
    assert jobs[1] == {
        "job_name": "cache",
        "static_configs": [{"targets": ["127.0.0.1:8085"], "labels": {"service": "cache"}}],
    }


def test_prometheus_in_path_is_taken_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Prometheus in PATH wins over an unpacked one; with neither there is none."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert embedded.find(tmp_path / "cache") is None
    unpacked = tmp_path / "tools" / "usr" / "bin" / "prometheus"
    unpacked.parent.mkdir(parents=True)
    unpacked.touch(mode=0o755)
    assert embedded.find(tmp_path / "cache") == unpacked
    (tmp_path / "prometheus").touch(mode=0o755)
    assert embedded.find(tmp_path / "cache") == tmp_path / "prometheus"


def test_fetching_unpacks_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`fetch` downloads with apt-get, unpacks with dpkg-deb, and leaves the binary where `find` looks."""
    tools = tmp_path / "bin"
    tools.mkdir()
    _program(tools / "apt-get", "echo $1 > prometheus_1_amd64.deb")
    _program(tools / "dpkg-deb", '/bin/mkdir -p "$3/usr/bin"; /bin/cp "$2" "$3/usr/bin/prometheus"')
    monkeypatch.setenv("PATH", str(tools))
    binary = embedded.fetch(tmp_path / "hxp" / "cache")
    assert binary.read_text() == "download\n"
    assert embedded.find(tmp_path / "hxp" / "cache") == binary


def test_a_failed_download_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without apt-get, or when it fails, the error says so and what else would do."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotReady, match="apt-get, which is not here"):
        embedded.fetch(tmp_path / "hxp" / "cache")
    _program(tmp_path / "apt-get", "echo 'E: Unable to locate package' >&2; exit 100")
    _program(tmp_path / "dpkg-deb", "true")
    with pytest.raises(NotReady, match="apt-get failed: E: Unable to locate package"):
        embedded.fetch(tmp_path / "hxp" / "cache")


def _program(file: Path, script: str) -> None:
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
