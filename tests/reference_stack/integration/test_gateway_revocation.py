"""Keys on real PostgreSQL: revoked, changed or made within a second, and told what they used."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import asyncpg
import httpx
import pytest

from reference_stack.schemas.api.keys import ApiKey, KeyLimits, StoredKey, digest_of
from reference_stack.schemas.api.usage import UsageRow
from reference_stack.schemas.configuration.api_gateway import ApiGatewaySettings
from reference_stack.schemas.configuration.database import DatabaseSettings
from reference_stack.services.infrastructure.api_gateway.app import create_app
from reference_stack.services.infrastructure.api_gateway.keys.usage import usage_of
from reference_stack.services.infrastructure.api_gateway.refusal import Refusal
from reference_stack.services.integration.database.memory import MemoryDatabase
from reference_stack.services.integration.database.postgres import PostgresDatabase
from tests.reference_stack.infrastructure.conftest import PEPPER, eventually, serving

SECRET = "hxp-of-carol"  # pragma: allowlist secret
CAROL = ApiKey("carol", digest_of(SECRET.encode(), PEPPER.encode()), frozenset({"phi3"}), "red")


@pytest.fixture
async def database(postgres: DatabaseSettings) -> PostgresDatabase:
    """The store, with no keys."""
    store = PostgresDatabase(postgres)
    assert await store.ping() == ""
    connection = await asyncpg.connect(postgres.dsn)
    await connection.execute("TRUNCATE api_key, key_spend, usage")
    await connection.close()
    return store


def took_s(come: Callable[[], bool]) -> float:
    began = time.monotonic()
    eventually(come)
    return time.monotonic() - began


async def test_two_gateways_obey_within_a_second(
    database: PostgresDatabase, postgres: DatabaseSettings, tmp_path: Path
) -> None:
    """Made, allowed another model, revoked: both gateways hear within a second, though they remember for an hour."""
    pepper = tmp_path / "pepper"
    pepper.write_text(PEPPER)
    upstream = {"base_url": "http://127.0.0.1:9/v1"}
    said = {"upstreams": {"phi3": upstream, "hermes": upstream}, "pepper_file": str(pepper), "key_cache_s": 3600}
    settings = ApiGatewaySettings.model_validate(said | {"database_dsn": postgres.dsn})
    with serving(create_app(settings)) as one, serving(create_app(settings)) as other, httpx.Client() as http:

        def see(url: str) -> object:
            reply = http.get(f"{url}/v1/models", headers={"authorization": f"Bearer {SECRET}"})
            return [row["id"] for row in reply.json()["data"]] if reply.status_code == 200 else reply.status_code

        def all_see(what: object) -> Callable[[], bool]:
            return lambda: [see(one), see(other)] == [what, what]

        assert all_see(401)()
        await database.keys.add(StoredKey(CAROL))
        assert took_s(all_see(["phi3"])) < 1.0
        await database.keys.put(StoredKey(replace(CAROL, models=frozenset({"phi3", "hermes"}))))
        assert took_s(all_see(["phi3", "hermes"])) < 1.0
        await database.keys.revoke("carol")
        assert took_s(all_see(401)) < 1.0
    await database.close()


async def test_a_key_is_told_what_it_used_and_may_use(
    database: PostgresDatabase, postgres: DatabaseSettings, tmp_path: Path
) -> None:
    """Its own totals by model over the time asked for, its limits and what is taken of its budget; nobody else's."""
    pepper = tmp_path / "pepper"
    pepper.write_text(PEPPER)
    said = {"pepper_file": str(pepper), "database_dsn": postgres.dsn}
    await database.keys.add(StoredKey(replace(CAROL, limits=KeyLimits(60, budget_tokens=1000))))
    await database.spend.set_spent("carol", 40)
    row = UsageRow("u1", "", "carol", "red", "phi3", "chat", "complete", 200, False, 3, 4, True, time.time() - 60, 0.1)
    await database.usage.add([row, replace(row, request_id="u2", key_id="dave")])
    who = {"authorization": f"Bearer {SECRET}"}
    with serving(create_app(ApiGatewaySettings.model_validate(said))) as url:
        http = httpx.AsyncClient(base_url=url, headers=who)
        told = (await http.get("/v1/usage")).json()
        assert told["data"] == [{"model": "phi3", "requests": 1, "prompt_tokens": 3, "output_tokens": 4}]
        assert told["limits"]["requests_per_minute"] == 60
        assert (told["limits"]["budget_tokens"], told["limits"]["budget_taken"]) == (1000, 40)
        assert (await http.get("/v1/usage", params={"until": "2020-01-01T00:00:00Z"})).json()["data"] == []
        for wrong in ("yesterday", "2020-01-01T00:00:00"):
            reply = await http.get("/v1/usage", params={"since": wrong})
            assert (reply.status_code, reply.json()["error"]["param"]) == (400, "since")
        await http.aclose()
    await database.close()


async def test_usage_that_cannot_be_read_is_a_503() -> None:
    """Without a database, and with one that is out, a key is told so and nothing else."""
    out = MemoryDatabase()
    out.outage = True
    for store in (None, out):
        with pytest.raises(Refusal) as refused:
            await usage_of(CAROL, store, {})
        assert (refused.value.status, refused.value.code) == (503, "usage_unavailable")
