"""What the four integration services show over HTTP, on their mocks and during an outage."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from reference_stack.orchestration import ports
from reference_stack.schemas.api.keys import ApiKey, StoredKey
from reference_stack.schemas.api.usage import UsageRow
from reference_stack.schemas.configuration.cache import CacheSettings
from reference_stack.schemas.configuration.database import DatabaseSettings
from reference_stack.schemas.configuration.metrics import MetricsSettings
from reference_stack.schemas.configuration.vector_database import VectorDatabaseSettings
from reference_stack.services.integration.cache import app as cache
from reference_stack.services.integration.cache.memory import MemoryCache
from reference_stack.services.integration.database import app as database
from reference_stack.services.integration.database.memory import MemoryDatabase
from reference_stack.services.integration.metrics import app as metrics
from reference_stack.services.integration.metrics.memory import MemoryMetrics
from reference_stack.services.integration.metrics.port import Firing, Series
from reference_stack.services.integration.metrics.queries import QUERIES
from reference_stack.services.integration.vector_database import app as vector_database
from reference_stack.services.integration.vector_database.client import connect
from reference_stack.services.integration.vector_database.port import Collection, Point
from reference_stack.services.integration.vector_database.tenants import TenantVectors


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://t") as client:
        yield client


APPS: Mapping[str, Callable[[], FastAPI]] = {
    "database": lambda: database.create_app(DatabaseSettings(backend="mock")),
    "cache": lambda: cache.create_app(CacheSettings(backend="mock")),
    "metrics": lambda: metrics.create_app(MetricsSettings(backend="mock")),
    "vector_database": lambda: vector_database.create_app(VectorDatabaseSettings(backend="mock")),
}
ABSENT: Mapping[str, Callable[[], FastAPI]] = {
    "database": lambda: database.create_app(DatabaseSettings(port=1)),
    "cache": lambda: cache.create_app(CacheSettings(port=1)),
    "metrics": lambda: metrics.create_app(MetricsSettings(prometheus_port=1)),
    "vector_database": lambda: vector_database.create_app(
        VectorDatabaseSettings(backend="external", port=1, grpc_port=1)
    ),
}
QUESTIONS = {
    "database": "/v1/usage",
    "cache": "/v1/values/x",
    "metrics": "/v1/query?expression=1",
    "vector_database": "/v1/collections",
}


@pytest.mark.parametrize("name", APPS)
async def test_a_mocked_service_is_ready_and_measured(name: str) -> None:
    """On its mock every service is ready, says who it is, and has metrics of its own."""
    async with serving(APPS[name]()) as client:
        health = (await client.get("/health")).json()
        assert health["service"] == name
        assert health["status"] == "ready"
        assert "up 1.0" in (await client.get("/metrics")).text


@pytest.mark.parametrize("name", APPS)
async def test_a_service_tells_its_api(name: str) -> None:
    """Every service has an OpenAPI document that names its own routes and the common ones."""
    async with serving(APPS[name]()) as client:
        paths = set((await client.get("/openapi.json")).json()["paths"])
    assert paths > {"/health", "/health/live", "/health/ready", "/metrics"}
    assert any(path.startswith("/v1/") for path in paths)


@pytest.mark.parametrize("name", ABSENT)
async def test_without_its_server_a_service_lives_and_is_not_ready(name: str) -> None:
    """A dead server makes its service unready with the reason, and its questions 503; the service lives on."""
    async with serving(ABSENT[name]()) as client:
        assert (await client.get("/health/live")).status_code == 200
        ready = await client.get("/health/ready")
        assert ready.status_code == 503
        assert any(ready.json()["dependencies"].values())
        refused = await client.get(QUESTIONS[name])
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"


async def test_keys_and_usage_can_be_read_and_never_the_digest() -> None:
    """The database service lists keys without what identifies them, and sums of usage."""
    store = MemoryDatabase()
    await store.keys.put(StoredKey(ApiKey("k1", b"\7" * 32, frozenset({"phi3"}), "acme"), name="first"))
    row = UsageRow("r1", "", "k1", "acme", "phi3", "chat", "complete", 200, False, 3, 4, True, 1000.0, 0.1)
    await store.usage.add([row])
    async with serving(database.create_app(DatabaseSettings(), database=store)) as client:
        assert (await client.get("/v1/keys")).json() == [
            {"id": "k1", "name": "first", "tenant": "acme", "models": ["phi3"], "revoked": False, "expires": None}
        ]
        assert (await client.get("/v1/usage")).json() == [
            {"key_id": "k1", "model": "phi3", "requests": 1, "prompt_tokens": 3, "output_tokens": 4}
        ]
        later = datetime(2000, 1, 1, tzinfo=UTC).isoformat()
        assert (await client.get("/v1/usage", params={"since": later})).json() == []
        assert (await client.get("/v1/usage", params={"since": "2000-01-01T00:00:00"})).status_code == 422


async def test_runs_over_http() -> None:
    """The database service keeps runs with the history of their verdicts; wrong ones are refused."""
    body: dict[str, dict[str, object]] = {
        "run": {
            "id": "r1",
            "started": "2026-01-01T12:00:00Z",
            "profile": "mixtral",
            "service": "mixtral",
            "evidence": "tiny",
            "metrics": {"e2e": 0.5},
        },
        "verdict": {"outcome": "PASS", "reasons": ["fast"], "judged": "2026-01-01T12:05:00Z"},
    }
    async with serving(database.create_app(DatabaseSettings(backend="mock"))) as client:
        assert (await client.put("/v1/runs/r1", json=body)).status_code == 204
        assert (await client.get("/v1/runs")).json() == [body]
        assert (await client.get("/v1/runs", params={"service": "phi3"})).json() == []
        assert (await client.get("/v1/runs/r1")).json() == body
        assert (await client.get("/v1/runs/r1/verdicts")).json() == [body["verdict"]]
        assert (await client.get("/v1/runs/r2")).status_code == 404
        assert (await client.put("/v1/runs/r2", json=body)).status_code == 400
        for wrong in (
            {"evidence": "guessed"},
            {"metrics": {"e2e": "NaN"}},
            {"started": "yesterday"},
            {"colour": "red"},
        ):
            assert (await client.put("/v1/runs/r1", json={**body, "run": body["run"] | wrong})).status_code == 422


async def test_values_and_limits_over_http() -> None:
    """The cache service keeps, gives and drops values, and limits."""
    async with serving(cache.create_app(CacheSettings(), cache=MemoryCache(CacheSettings()))) as client:
        assert (await client.put("/v1/values/a", content=b"\0\xff")).status_code == 204
        assert (await client.get("/v1/values/a")).content == b"\0\xff"
        assert (await client.delete("/v1/values/a")).status_code == 204
        assert (await client.get("/v1/values/a")).status_code == 404
        assert (await client.put("/v1/values/b", content=b"x" * (1024 * 1024 + 1))).status_code == 413
        limit = {"limit": 1, "window_s": 60}
        assert (await client.post("/v1/limits/a", params=limit)).json() == {"allowed": True, "left": 0, "retry_s": 0.0}
        assert (await client.post("/v1/limits/a", params=limit)).json()["allowed"] is False


async def test_questions_to_prometheus_over_http() -> None:
    """The metrics service passes questions on; a wrong one is a 400."""
    store = MemoryMetrics()
    async with serving(metrics.create_app(MetricsSettings(), metrics=store)) as client:
        answer = [{"labels": {}, "points": [[0.0, "1.0"]]}]
        assert (await client.get("/v1/query", params={"expression": "1"})).json() == answer
        assert (await client.get("/v1/query_range?expression=1&start_s=0&end_s=1")).json() == answer
        assert (await client.get("/v1/targets")).json() == []
        store.answers[QUERIES["services_up"].over("5m")] = [Series({}, ((0.0, 12.0),))]
        named = {"labels": {}, "points": [[0.0, "12.0"]]}
        assert (await client.get("/v1/queries/services_up?window=5m")).json() == [named]
        assert [row["name"] for row in (await client.get("/v1/queries")).json()] == list(QUERIES)
        unknown = await client.get("/v1/queries/service_upp")
        assert (unknown.status_code, unknown.json()["detail"]) == (404, "no such query; did you mean 'service_up'?")
        assert (await client.get("/v1/queries/services_up?window=0s")).status_code == 422
        store.firing = [Firing("ServiceDown", {"service": "cache"}, "it is down", 5.0)]
        assert [row["name"] for row in (await client.get("/v1/alerts")).json()] == ["ServiceDown"]
        wrong = await client.get("/v1/query", params={"expression": "("})
        assert wrong.status_code == 400


async def test_without_any_prometheus_the_service_is_ready_and_says_so() -> None:
    """Where there is no Prometheus to have, the service serves its own metrics, and questions get the reason."""
    app = metrics.create_app(MetricsSettings(absent="none on this machine", prometheus_port=1))
    async with serving(app) as client:
        assert (await client.get("/health/ready")).status_code == 200
        assert (await client.get("/v1/query", params={"expression": "1"})).json() == {"detail": "none on this machine"}


async def test_searches_over_http() -> None:
    """The vector database service lists collections and searches; a wrong question is a 400."""
    settings = VectorDatabaseSettings(backend="mock")
    store = connect(settings)
    await store.ensure(Collection("c", 2))
    await store.upsert("c", [Point(1, [1.0, 0.0], {"a": "b"})])
    async with serving(vector_database.create_app(settings, vectors=store)) as client:
        assert (await client.get("/v1/collections")).json() == ["c"]
        found = await client.post("/v1/collections/c/search", json={"vector": [1.0, 0.0], "where": {"a": "b"}})
        assert found.json() == [{"id": 1, "score": 1.0, "payload": {"a": "b"}}]
        assert (await client.post("/v1/collections/d/search", json={"vector": [1.0]})).status_code == 400


@pytest.mark.owasp("LLM08:2025")
async def test_a_collection_with_tenants_is_searched_for_one_alone() -> None:
    """A declared collection is made when first asked, refused without a tenant, and none sees another's points."""
    settings = VectorDatabaseSettings.model_validate(
        {"backend": "mock", "collections": {"notes": {"size": 2, "tenant": "owner"}}}
    )
    store = connect(settings)
    notes = Collection("notes", 2, tenant="owner")
    async with serving(vector_database.create_app(settings, vectors=store)) as client:
        asked = {"vector": [1.0, 0.0], "where": {}}
        path = "/v1/collections/notes/search"
        assert (await client.post(path, json=asked, headers={"X-HXP-Tenant": "acme"})).json() == []
        await TenantVectors(store, notes, "acme").upsert([Point(1, [1.0, 0.0], {"text": "mine"})])
        mine = (await client.post(path, json=asked, headers={"X-HXP-Tenant": "acme"})).json()
        assert [row["payload"] for row in mine] == [{"text": "mine", "owner": "acme"}]
        assert (await client.post(path, json=asked, headers={"X-HXP-Tenant": "other"})).json() == []
        stolen = asked | {"where": {"owner": "acme"}}
        assert (await client.post(path, json=stolen, headers={"X-HXP-Tenant": "other"})).json() == []
        assert (await client.post(path, json=stolen)).status_code == 400


async def test_the_embedded_vector_store_comes_with_its_service(tmp_path: Path) -> None:
    """With its own backend the service answers Qdrant's API too."""
    rest, grpc = ports.reserve(), ports.reserve()
    settings = VectorDatabaseSettings(port=rest.port, grpc_port=grpc.port, folder=tmp_path, timeout_s=10)
    async with serving(vector_database.create_app(settings)) as client:
        assert (await client.get("/health/ready")).status_code == 200
        async with httpx.AsyncClient(base_url=settings.url, trust_env=False) as qdrant:
            assert (await qdrant.get("/")).json()["version"] == "1.20.0"
            assert (await qdrant.get("/readyz")).status_code == 200
    rest.close()
    grpc.close()
