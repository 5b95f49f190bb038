"""The contract of the vector database: the mock, the embedded engine over gRPC and REST, a server of its own."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from reference_stack.errors import NotReady
from reference_stack.orchestration import ports
from reference_stack.schemas.configuration.vector_database import VectorDatabaseSettings
from reference_stack.services.integration.vector_database.client import connect
from reference_stack.services.integration.vector_database.embedded import serving
from reference_stack.services.integration.vector_database.port import (
    Collection,
    Neighbour,
    Point,
    Refused,
    Unavailable,
    Unsupported,
    VectorDatabase,
)
from reference_stack.services.integration.vector_database.tenants import TenantVectors

TWO = uuid.UUID(int=2)
C = Collection("c", 3, indexed={"lang": "keyword", "n": "integer"})
BOTH = Collection("both", 2, "dot", words=True, tenant="owner")


@pytest.fixture
def settings(tmp_path: Path) -> VectorDatabaseSettings:
    reservations = [ports.reserve(), ports.reserve()]
    rest, grpc = (reservation.port for reservation in reservations)
    for reservation in reservations:
        reservation.close()
    return VectorDatabaseSettings(port=rest, grpc_port=grpc, folder=tmp_path / "vectors", timeout_s=10)


@pytest.fixture(params=["mock", "embedded-grpc", "embedded-rest", "external"])
async def vectors(request: pytest.FixtureRequest, settings: VectorDatabaseSettings) -> AsyncIterator[VectorDatabase]:
    """An empty vector database on each leg, with one collection "c" of 3 numbers and two points in it."""
    async with AsyncExitStack() as stack:
        if request.param == "mock":
            settings = settings.model_copy(update={"backend": "mock"})
        elif request.param == "external":
            settings = request.getfixturevalue("external_qdrant")
        else:
            settings = settings.model_copy(update={"prefer_grpc": request.param == "embedded-grpc"})
            await stack.enter_async_context(serving(settings))
        store = connect(settings)
        stack.push_async_callback(store.close)
        await store.drop("c")
        await store.drop("both")
        await store.ensure(C)
        points = [Point(1, [1, 0, 0], {"lang": "en", "n": 1}), Point(TWO, [0, 1, 0], {"lang": "de", "n": 2})]
        await store.upsert("c", points)
        yield store
        await store.drop("c")
        await store.drop("both")


async def test_the_nearest_comes_first(vectors: VectorDatabase) -> None:
    """A search gives the points in the order of nearness, with their payloads."""
    found = await vectors.search("c", [0.0, 1.0, 0.0], 5)
    assert found == [Neighbour(TWO, 1.0, {"lang": "de", "n": 2}), Neighbour(1, 0.0, {"lang": "en", "n": 1})]
    assert len(await vectors.search("c", [0.0, 1.0, 0.0], 1)) == 1


async def test_a_filter_narrows_search_and_count(vectors: VectorDatabase) -> None:
    """Only points with all the wanted values are found and counted."""
    assert [row.id for row in await vectors.search("c", [0.0, 1.0, 0.0], 5, {"lang": "en"})] == [1]
    assert await vectors.count("c") == 2
    assert await vectors.count("c", {"lang": "de", "n": 2}) == 1
    assert await vectors.count("c", {"lang": "de", "n": 1}) == 0


async def test_true_is_not_one(vectors: VectorDatabase) -> None:
    """A boolean of a payload is found as a boolean, and not as a number."""
    await vectors.upsert("c", [Point(3, [0, 0, 1], {"open": True}), Point(4, [0, 0, 1], {"open": 1})])
    assert [row.id for row in await vectors.search("c", [0.0, 0.0, 1.0], 5, {"open": True})] == [3]
    assert [row.id for row in await vectors.search("c", [0.0, 0.0, 1.0], 5, {"open": 1})] == [4]
    assert await vectors.count("c", {"open": False}) == 0


async def test_upsert_replaces_and_delete_removes(vectors: VectorDatabase) -> None:
    """The same id twice is one point, the later; a removed point is gone, an unknown one no error."""
    await vectors.upsert("c", [Point(1, [0, 0, 1], {"lang": "fr"})])
    assert (await vectors.search("c", [0.0, 0.0, 1.0], 1))[0].payload == {"lang": "fr"}
    await vectors.delete("c", [])
    await vectors.delete("c", [1, 77])
    assert await vectors.count("c") == 1


async def test_scroll_goes_through_all_points_once(vectors: VectorDatabase) -> None:
    """Page by page every point comes once, with its vector."""
    first, following = await vectors.scroll("c", 1)
    assert first == [Point(1, [1.0, 0.0, 0.0], {"lang": "en", "n": 1})]
    second, end = await vectors.scroll("c", 5, following)
    assert [point.id for point in second] == [TWO]
    assert end is None
    assert [point.id for point in (await vectors.scroll("c", 5, None, {"lang": "de"}))[0]] == [TWO]


async def test_collections_are_made_listed_and_dropped(vectors: VectorDatabase) -> None:
    """A collection exists from its declaration to its drop; declaring it again as it is changes nothing."""
    assert await vectors.ensure(Collection("d", 2, "euclid"))
    assert {"c", "d"} <= set(await vectors.collections())
    await vectors.upsert("d", [Point(1, [1, 0])])
    assert not await vectors.ensure(Collection("d", 2, "euclid"))
    assert await vectors.count("d") == 1
    assert await vectors.drop("d")
    assert "d" not in await vectors.collections()


@pytest.mark.parametrize("other", [Collection("c", 4), Collection("c", 3, "dot"), Collection("c", 3, words=True)])
async def test_another_declaration_is_refused(vectors: VectorDatabase, other: Collection) -> None:
    """A collection that is there and is not what is declared is refused with both, and stays as it is."""
    with pytest.raises(Refused, match="'c' is there and has 3 numbers"):
        await vectors.ensure(other)
    assert await vectors.count("c") == 2


async def test_many_points_go_in_batches(vectors: VectorDatabase) -> None:
    """Any number of points at once are all there afterwards."""
    await vectors.upsert("c", [Point(number, [1, number, 0], {"n": number}) for number in range(700)])
    assert await vectors.count("c") == 701
    assert (await vectors.search("c", [1.0, 650.0, 0.0], 1, {"n": 650}))[0].id == 650
    await vectors.upsert("c", [])


async def test_both_orders_are_fused(vectors: VectorDatabase) -> None:
    """What is near and what shares a rare word come before what is either; a point without words takes part."""
    await vectors.ensure(BOTH)
    points = [
        Point(1, [2, 0], {"owner": "a"}, {7: 2.0, 8: 1.0}),
        Point(2, [1, 0], {"owner": "a"}, {8: 1.0}),
        Point(3, [0, 2], {"owner": "b"}, {7: 1.0}),
        Point(4, [0, 1], {"owner": "b"}),
    ]
    await vectors.upsert("both", points)
    found = await vectors.search_both("both", [1.0, 0.1], {7: 1.0}, 10)
    assert found[0].id == 1
    assert {row.id for row in found} == {1, 2, 3, 4}
    assert [row.score for row in found] == sorted((row.score for row in found), reverse=True)
    assert [row.id for row in await vectors.search_both("both", [1.0, 0.1], {7: 1.0}, 10, {"owner": "b"})] == [3, 4]
    assert len(await vectors.search_both("both", [1.0, 0.1], {7: 1.0}, 2)) == 2
    page, _ = await vectors.scroll("both", 1)
    assert page == [points[0]]


@pytest.mark.owasp("LLM08:2025")
async def test_a_tenant_sees_and_touches_its_own_alone(vectors: VectorDatabase) -> None:
    """Whatever a tenant asks for, writes or removes, another's points are neither found nor changed."""
    await vectors.ensure(BOTH)
    acme, other = (TenantVectors(vectors, BOTH, tenant) for tenant in ("acme", "other"))
    await acme.upsert([Point(1, [1, 0], {"text": "mine", "owner": "other"}, {7: 1.0})])
    await other.upsert([Point(1, [1, 0], {"text": "theirs"}, {7: 1.0})])
    for found in (await acme.search([1.0, 0.0], 10), await acme.search_both([1.0, 0.0], {7: 1.0}, 10)):
        assert [row.payload for row in found] == [{"text": "mine", "owner": "acme"}]
    assert await acme.search([1.0, 0.0], 10, {"owner": "other"}) == []
    assert await acme.search_both([1.0, 0.0], {7: 1.0}, 10, {"owner": "other"}) == []
    assert [await acme.count(), await acme.count({"owner": "other"})] == [1, 0]
    await acme.delete([1])
    assert [await acme.count(), await other.count()] == [0, 1]


async def test_a_snapshot_is_made_or_said_to_be_impossible(
    vectors: VectorDatabase, request: pytest.FixtureRequest
) -> None:
    """A server that makes snapshots names the one it made; a backend that makes none says so, and says so only."""
    if "external" in request.node.name and os.environ.get("HXP_TEST_QDRANT_URL"):
        assert await vectors.snapshot("c")
    else:
        with pytest.raises(Unsupported, match="no snapshots"):
            await vectors.snapshot("c")
    assert await vectors.count("c") == 2


async def test_a_vector_of_the_wrong_size_is_refused(vectors: VectorDatabase) -> None:
    """Neither stored nor asked with: it is no outage and changes nothing."""
    for call in (vectors.upsert("c", [Point(9, [1.0])]), vectors.search("c", [1.0], 1)):
        with pytest.raises(Refused):
            await call
    assert await vectors.count("c") == 2


async def test_what_is_wrong_is_refused(vectors: VectorDatabase) -> None:
    """An unknown collection is refused, not an outage."""
    assert await vectors.ping() == ""
    calls = (
        vectors.count("nowhere"),
        vectors.search("nowhere", [1.0], 1),
        vectors.upsert("nowhere", [Point(1, [1.0])]),
        vectors.scroll("nowhere", 1),
        vectors.delete("nowhere", [1]),
    )
    for call in calls:
        with pytest.raises(Refused):
            await call
    assert not await vectors.drop("nowhere")


@pytest.mark.parametrize("prefer_grpc", [True, False])
async def test_the_engine_refuses_vectors_of_the_wrong_size(
    settings: VectorDatabaseSettings, prefer_grpc: bool
) -> None:
    """A vector of the wrong size is refused in the engine's words."""
    settings = settings.model_copy(update={"prefer_grpc": prefer_grpc})
    async with serving(settings):
        store = connect(settings)
        await store.ensure(Collection("c", 3))
        for call in (store.upsert("c", [Point(1, [1.0])]), store.search("c", [1.0], 1)):
            with pytest.raises(Refused, match="expected dim: 3, got 1"):
                await call
        await store.close()


async def test_points_survive_a_restart(settings: VectorDatabaseSettings) -> None:
    """What was stored is there when the engine opens the folder again."""
    for expected in (0, 1):
        async with serving(settings):
            store = connect(settings)
            if expected == 0:
                await store.ensure(Collection("kept", 2))
                await store.upsert("kept", [Point(1, [1.0, 0.0])])
            assert await store.count("kept") == 1
            await store.close()


@pytest.mark.parametrize("prefer_grpc", [True, False])
async def test_nobody_there_is_unavailable(settings: VectorDatabaseSettings, prefer_grpc: bool) -> None:
    """Without a server every call raises Unavailable."""
    store = connect(settings.model_copy(update={"prefer_grpc": prefer_grpc}))
    with pytest.raises(Unavailable):
        await store.count("c")
    assert "cannot be asked" in await store.ping()
    await store.close()


async def test_where_grpc_is_blocked_rest_is_asked(settings: VectorDatabaseSettings) -> None:
    """With a dead or silent gRPC port questions go over REST, and only the first one pays for finding out."""
    async with serving(settings):
        with ports.listen(0) as silent:
            for blocked in (1, silent.getsockname()[1]):
                store = connect(settings.model_copy(update={"grpc_port": blocked, "timeout_s": 2.0}))
                assert await store.ensure(Collection(f"c{blocked}", 2))
                began = time.monotonic()
                await store.upsert(f"c{blocked}", [Point(1, [1.0, 0.0])])
                assert await store.count(f"c{blocked}") == 1
                assert time.monotonic() - began < 1.0
                await store.close()


@pytest.mark.parametrize("prefer_grpc", [True, False])
async def test_a_silent_server_costs_the_deadline(settings: VectorDatabaseSettings, prefer_grpc: bool) -> None:
    """A server that takes connections and says nothing is unavailable within the deadline."""
    with ports.listen(settings.port), ports.listen(settings.grpc_port):
        store = connect(settings.model_copy(update={"prefer_grpc": prefer_grpc, "timeout_s": 0.4}))
        began = time.monotonic()
        with pytest.raises(Unavailable, match="in time"):
            await store.count("c")
        assert time.monotonic() - began < 2.0
        await store.close()


async def test_a_server_that_comes_back_is_asked_again(settings: VectorDatabaseSettings) -> None:
    """What was down at the start, or went, is found again by the next call."""
    store = connect(settings)
    assert await store.ping()
    for _ in range(2):
        async with serving(settings):
            assert await store.ping() == ""
        assert await store.ping()
    await store.close()


def test_tenants_need_a_name_and_a_field() -> None:
    """A collection without tenants is not asked for one, and one with tenants not without."""
    store = connect(VectorDatabaseSettings(backend="mock"))
    with pytest.raises(Refused, match="without tenants"):
        TenantVectors(store, C, "acme")
    with pytest.raises(Refused, match="none was named"):
        TenantVectors(store, BOTH, "")


@pytest.mark.parametrize("which", ["port", "grpc_port"])
async def test_a_taken_port_is_said(settings: VectorDatabaseSettings, which: str) -> None:
    """A taken port is an error that names it, and leaves nothing behind."""
    with ports.listen(getattr(settings, which)), pytest.raises(NotReady, match=str(getattr(settings, which))):
        async with serving(settings):
            pass
