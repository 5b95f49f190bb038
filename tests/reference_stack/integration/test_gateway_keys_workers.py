"""Keys over real workers: a key's limits are those of all of them together, and all of them obey within a second."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from reference_stack.__main__ import main
from reference_stack.schemas.configuration.cache import CacheSettings
from reference_stack.schemas.configuration.database import DatabaseSettings
from reference_stack.services.integration.database.postgres import PostgresDatabase
from tests.reference_stack.infrastructure.conftest import Backend, chat
from tests.reference_stack.infrastructure.gateway_processes import Served, served

WORKERS = 4
LIMIT = 400
CLIENTS = 16


async def race(gateway: Served, secret: str, attempts: int) -> Counter[int]:
    """Return how often each status was answered to clients who ask as fast as they can, each on its connection."""
    statuses: Counter[int] = Counter()

    async def client() -> None:
        headers = {"authorization": f"Bearer {secret}"}
        limits = httpx.Limits(max_connections=1)
        url = f"http://127.0.0.1:{gateway.port}"
        async with httpx.AsyncClient(base_url=url, headers=headers, limits=limits, timeout=30) as http:
            for _ in range(attempts):
                reply = await http.post("/v1/chat/completions", json=chat())
                statuses[reply.status_code] += 1
                assert reply.status_code == 200 or int(reply.headers["retry-after"]) >= 1

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return statuses


def all_refused(gateway: Served, secret: str) -> bool:
    """Whether new connections, enough to meet every worker, all get a 401."""
    headers = {"authorization": f"Bearer {secret}", "connection": "close"}
    with httpx.Client(base_url=f"http://127.0.0.1:{gateway.port}", headers=headers) as http:
        return all(http.get("/v1/models").status_code == 401 for _ in range(8 * WORKERS))


@pytest.mark.owasp("API2:2023", "API4:2023")
async def test_workers_share_limits_and_obey_within_a_second(
    postgres: DatabaseSettings,
    valkey_server: CacheSettings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Sixteen clients of a key made on the command line get its requests a minute and no more; revoked, none."""
    store = PostgresDatabase(postgres)
    assert await store.ping() == ""
    await store.close()
    connection = await asyncpg.connect(postgres.dsn)
    await connection.execute("TRUNCATE api_key, key_spend")
    await connection.close()
    with Backend() as backend:
        where: dict[str, Any] = {
            "database_dsn": postgres.dsn,
            "cache_url": valkey_server.url,
            "cache_s": 5.0,
            "workers": WORKERS,
        }
        with served(tmp_path, backend.url, **where) as gateway:
            keys = ("--settings", str(tmp_path / "settings.yaml"), "--json")
            assert await asyncio.to_thread(main, ["keys", "create", "racer", "--rpm", str(LIMIT), *keys]) == 0
            secret = json.loads(capsys.readouterr().out)["secret"]
            statuses = await race(gateway, secret, 2 * LIMIT // CLIENTS)
            assert set(statuses) == {200, 429}
            assert 0.95 * LIMIT <= statuses[200] <= LIMIT
            assert await asyncio.to_thread(main, ["keys", "revoke", "racer", *keys]) == 0
            revoked_s = time.monotonic()
            while not await asyncio.to_thread(all_refused, gateway, secret):
                assert time.monotonic() - revoked_s < 1.0
