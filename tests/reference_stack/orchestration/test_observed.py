"""A whole stack under traffic, seen through a real Prometheus: no panel and no recorded rule is empty."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from reference_stack.catalogue import load_catalogue
from reference_stack.schemas.configuration.metrics import MetricsSettings
from reference_stack.services.integration.metrics import embedded
from reference_stack.services.integration.metrics.client import PrometheusMetrics
from reference_stack.services.integration.metrics.port import Firing, Series
from reference_stack.services.integration.metrics.queries import QUERIES
from reference_stack.services.integration.metrics.rules import RECORDED, alerts

CACHE = Path(__file__).parents[3] / ".hxp" / "cache"
MODELS = [name for name, spec in load_catalogue().items() if spec.group == "ai_models"]
# What a query must have a number for each of: its label and all values of that.
EVERY = {
    "service_up": ("service", set(load_catalogue())),
    "process_memory": ("service", set(load_catalogue())),
    "e2e_p95": ("model_name", set(MODELS)),
}
pytestmark = pytest.mark.xdist_group("observed")  # one stack for all of them
Services = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """All twelve, their metrics collected every second."""
    if embedded.find(CACHE) is None:
        pytest.skip("no Prometheus here: hxp-stack tools fetches one")
    folder = tmp_path_factory.mktemp("observed")
    (folder / "host.yaml").write_text("metrics: {collection_interval_s: 1}\nmonitoring: {interval_s: 1}\n")
    argv = [sys.executable, "-m", "reference_stack", "up", "--foreground", "--json", "--ports", "free"]
    argv += ["--folder", str(folder / "stack"), "--host-file", str(folder / "host.yaml")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as stack:
        assert stack.stdout is not None
        said = json.loads(stack.stdout.readline())
        assert said["ready"], said
        yield said["services"]
        assert stack.stdin is not None
        stack.stdin.close()
        stack.wait(20)


def ask_every_model(services: Services) -> None:
    """Send each model one request through the gateway."""
    gateway = services["api_gateway"]
    with httpx.Client(headers={"Authorization": f"Bearer {gateway['api_key']}"}, timeout=30, trust_env=False) as http:
        for model in MODELS:
            body = {"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}
            assert http.post(f"{gateway['base_url']}/chat/completions", json=body).status_code == 200


def test_nothing_that_is_shown_is_empty(services: Services) -> None:
    """Under traffic every query of the dashboards and every recorded rule has numbers, a model or service each."""
    prometheus = _prometheus(services)
    wanted = {name: query.over("1m") for name, query in QUERIES.items()} | {name: name for name in RECORDED}
    found: dict[str, list[Series]] = {}
    deadline = time.monotonic() + 60
    while missing := [name for name in wanted if not _complete(name, found.get(name, []))]:
        assert time.monotonic() < deadline, missing
        ask_every_model(services)
        found |= asyncio.run(_ask(prometheus, {name: wanted[name] for name in missing}))

    for name, (label, whole) in EVERY.items():
        assert {series.labels[label] for series in found[name]} == whole


def test_every_metric_that_is_named_is_one_that_is_served(services: Services) -> None:
    """What rules and queries name stands on a live page of metrics, or is recorded by us or Prometheus itself."""
    import promql_parser

    expressions = [query.over("1m") for query in QUERIES.values()]
    expressions += [*RECORDED.values(), *(alert.expression for alert in alerts())]
    named = {name for text in expressions for name in _named(promql_parser.parse(text))}

    assert len(named) > 20
    ask_every_model(services)  # a counter whose labels no worker has seen is on no page
    deadline = time.monotonic() + 30
    # The folder of storage is none that this stack has; a worker's numbers reach the common page within a second.
    while missing := named - _served(services) - {"up", "scrape_duration_seconds", "hxp_storage_free_bytes", *RECORDED}:
        assert time.monotonic() < deadline, missing


def test_the_rules_are_loaded_and_quiet(services: Services) -> None:
    """Prometheus evaluates every alert, and a stack that is well raises none."""
    prometheus = _prometheus(services)

    async def ask() -> list[Firing]:
        store = PrometheusMetrics(prometheus)
        try:
            return await store.alerts()
        finally:
            await store.close()

    loaded = httpx.get(f"{prometheus.prometheus_url}/api/v1/rules", trust_env=False).json()["data"]["groups"]
    names = {rule["name"] for group in loaded for rule in group["rules"]}
    assert names == {*RECORDED, *(alert.name for alert in alerts())}
    deadline = time.monotonic() + 30
    while found := asyncio.run(ask()):  # what was not up when Prometheus first looked waits for its minute, and goes
        assert not any(row.firing for row in found), found
        assert time.monotonic() < deadline, found


def _served(services: Services) -> set[str]:
    """Return the names on the live pages of metrics of all services."""
    there: set[str] = set()
    for row in services.values():
        for family in text_string_to_metric_families(httpx.get(row["metrics_url"], timeout=20, trust_env=False).text):
            there |= {family.name, f"{family.name}_total", *(sample.name for sample in family.samples)}
    return there


def _prometheus(services: Services) -> MetricsSettings:
    return MetricsSettings(prometheus_port=int(services["metrics"]["url"].rsplit(":", 1)[1]), timeout_s=20)


async def _ask(settings: MetricsSettings, expressions: dict[str, str]) -> dict[str, list[Series]]:
    store = PrometheusMetrics(settings)
    try:
        return {name: await store.query(text) for name, text in expressions.items()}
    finally:
        await store.close()


def _complete(name: str, series: list[Series]) -> bool:
    if name == "services_up":  # monitoring's first look may come before the last service
        return [row.points[0][1] for row in series] == [12.0]
    whole = EVERY.get(name)  # a service that came up last is scraped last
    if whole is not None and {row.labels[whole[0]] for row in series} != whole[1]:
        return False
    return bool(series) and not any(math.isnan(value) for row in series for _, value in row.points)


def _named(node: Any) -> Iterator[str]:
    """Yield the names of the metrics in a parsed expression."""
    if type(node).__name__ == "VectorSelector" and node.name:
        yield node.name
    for part in ("expr", "lhs", "rhs", "vector_selector"):
        inner = getattr(node, part, None)
        if inner is not None:
            yield from _named(inner)
    for inner in getattr(node, "args", None) or ():
        yield from _named(inner)
