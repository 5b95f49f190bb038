"""The integration services with the real servers behind them."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Callable

import asyncpg
import httpx
import pytest
import redis
from qdrant_client import QdrantClient, models

from hxp_harness.stack import RunningStack

Face = Callable[[str], httpx.Client]
Alone = Callable[[str], RunningStack]


async def test_the_database_is_postgresql(alone: Alone) -> None:
    """Behind the database service stands a PostgreSQL that takes SQL and has our tables."""
    connection = await asyncpg.connect(str(alone("database").services["database"]["url"]), timeout=10)
    try:
        version = await connection.fetchval("select version()")
        tables = await connection.fetch("select tablename from pg_tables where schemaname = 'public'")
    finally:
        await connection.close()

    assert version.startswith("PostgreSQL ")
    assert {"api_key", "usage"} <= {row["tablename"] for row in tables}


def test_the_database_says_what_it_holds(face: Face) -> None:
    """Keys are listed without their hashes, and usage is a list."""
    client = face("database")
    keys, usage = client.get("/v1/keys"), client.get("/v1/usage")

    assert keys.status_code == usage.status_code == 200
    assert isinstance(usage.json(), list)
    assert all("hash" not in key for key in keys.json())


def test_a_cached_value_comes_back_and_goes(face: Face) -> None:
    """What is put is what is got, byte for byte, until it is deleted or its time is over."""
    client = face("cache")
    value = bytes(range(256))

    assert client.get("/v1/values/absent").status_code == 404
    assert client.put("/v1/values/kept", content=value, params={"ttl_s": 60}).status_code == 204
    assert client.get("/v1/values/kept").content == value
    assert client.delete("/v1/values/kept").status_code == 204
    assert client.get("/v1/values/kept").status_code == 404


def test_the_cache_is_a_redis(alone: Alone) -> None:
    """Behind the cache service stands a server that speaks Redis's protocol."""
    client = redis.Redis.from_url(str(alone("cache").services["cache"]["url"]), socket_timeout=5)
    try:
        assert client.ping()
        assert "redis_version" in client.info("server")
    finally:
        client.close()


def test_a_limit_is_exact_under_a_race(face: Face) -> None:
    """Of fifty clients at once that ask for a limit of twenty, exactly twenty get in."""
    client = face("cache")
    asked = {"limit": 20, "window_s": 60}

    def ask(_: int) -> bool:
        return bool(client.post("/v1/limits/race", params=asked).json()["allowed"])

    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        allowed = list(pool.map(ask, range(50)))

    assert sum(allowed) == 20


@pytest.mark.parametrize("prefer_grpc", [False, True], ids=["rest", "grpc"])
def test_qdrants_own_client_searches(alone: Alone, prefer_grpc: bool) -> None:
    """The unmodified Qdrant client makes a collection, puts points and finds the nearest, over REST and gRPC."""
    row = alone("vector_database").services["vector_database"]
    client = QdrantClient(
        url=str(row["url"]), grpc_port=int(row["grpc_port"]), prefer_grpc=prefer_grpc, timeout=10, trust_env=False
    )
    name = f"suite_{'grpc' if prefer_grpc else 'rest'}"
    try:
        client.create_collection(name, models.VectorParams(size=4, distance=models.Distance.COSINE))
        points = [
            models.PointStruct(id=number, vector=[1.0, number / 10, 0.0, 0.0], payload={"number": number})
            for number in range(10)
        ]
        client.upsert(name, points, wait=True)
        found = client.query_points(name, query=[1.0, 0.9, 0.0, 0.0], limit=1, with_payload=True).points

        assert client.count(name).count == 10
        assert found[0].payload == {"number": 9}
        client.delete_collection(name)
        assert not client.collection_exists(name)
    finally:
        client.close()


def test_prometheus_answers_a_query(face: Face) -> None:
    """The metrics service passes a query to a real Prometheus, which scrapes the services of this stack."""
    client = face("metrics")
    ready = client.get("/health/ready").json()
    if any("no Prometheus" in reason for reason in ready["dependencies"].values()):
        pytest.skip(f"no Prometheus on this machine: {ready['dependencies']}")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:  # the first scrape comes some seconds after the start
        answer = client.get("/v1/query", params={"expression": "up"})
        if answer.status_code == 200 and answer.json():
            break
        time.sleep(0.2)  # polls a server of its own pace

    assert answer.status_code == 200
    assert answer.json()
