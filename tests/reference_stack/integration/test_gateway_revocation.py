"""A key that is revoked, changed or made is so within a second, on real PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import asyncpg
import httpx
import pytest

from reference_stack.schemas.api.keys import ApiKey, StoredKey, digest_of
from reference_stack.schemas.configuration.api_gateway import ApiGatewaySettings
from reference_stack.schemas.configuration.database import DatabaseSettings
from reference_stack.services.infrastructure.api_gateway.app import create_app
from reference_stack.services.integration.database.postgres import PostgresDatabase
from tests.reference_stack.infrastructure.conftest import PEPPER, eventually, serving

SECRET = "hxp-of-carol"
CAROL = ApiKey("carol", digest_of(SECRET.encode(), PEPPER.encode()), frozenset({"phi3"}), "red")


@pytest.fixture
async def database(postgres: DatabaseSettings) -> PostgresDatabase:
    """The store, with no keys."""
    store = PostgresDatabase(postgres)
    assert await store.ping() == ""
    connection = await asyncpg.connect(postgres.dsn)
    await connection.execute("TRUNCATE api_key, key_spend")
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
