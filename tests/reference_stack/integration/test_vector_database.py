"""The contract of the vector database: client memory, and the embedded engine over gRPC and over REST alike."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from reference_stack.errors import NotReady
from reference_stack.orchestration import ports
from reference_stack.schemas.configuration.vector_database import VectorDatabaseSettings
from reference_stack.services.integration.vector_database.client import connect
from reference_stack.services.integration.vector_database.embedded import serving
from reference_stack.services.integration.vector_database.port import (
    Neighbour,
    Point,
    Refused,
    Unavailable,
    VectorDatabase,
)

EXTERNAL = "HXP_TEST_QDRANT_URL"
TWO = uuid.UUID(int=2)


@pytest.fixture
def settings(tmp_path: Path) -> VectorDatabaseSettings:
    reservations = [ports.reserve(), ports.reserve()]
    rest, grpc = (reservation.port for reservation in reservations)
    for reservation in reservations:
        reservation.close()
    return VectorDatabaseSettings(port=rest, grpc_port=grpc, folder=tmp_path / "vectors", timeout_s=10)


@pytest.fixture(params=["memory", "grpc", "rest", "external"])
async def vectors(request: pytest.FixtureRequest, settings: VectorDatabaseSettings) -> AsyncIterator[VectorDatabase]:
    """An empty vector database on each leg, with one collection "c" of 3 numbers and two points in it."""
    async with AsyncExitStack() as stack:
        if request.param == "memory":
            settings = settings.model_copy(update={"backend": "mock"})
        elif request.param == "external":
            url = os.environ.get(EXTERNAL)
            if url is None:
                pytest.skip(f"no external Qdrant: {EXTERNAL} is not set")
            where = {"backend": "external", "host": urlsplit(url).hostname, "port": urlsplit(url).port}
            settings = settings.model_copy(update={**where, "prefer_grpc": False})
        else:
            settings = settings.model_copy(update={"prefer_grpc": request.param == "grpc"})
            await stack.enter_async_context(serving(settings))
        store = connect(settings)
        stack.push_async_callback(store.close)
        await store.drop("c")
        await store.create("c", 3)
        points = [Point(1, [1, 0, 0], {"lang": "en", "n": 1}), Point(TWO, [0, 1, 0], {"lang": "de", "n": 2})]
        await store.upsert("c", points)
        yield store
        await store.drop("c")


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


async def test_upsert_replaces_and_delete_removes(vectors: VectorDatabase) -> None:
    """The same id twice is one point, the later; a removed point is gone, an unknown one no error."""
    await vectors.upsert("c", [Point(1, [0, 0, 1], {"lang": "fr"})])
    assert (await vectors.search("c", [0.0, 0.0, 1.0], 1))[0].payload == {"lang": "fr"}
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
    """A collection exists from its creation to its drop; making it twice is refused."""
    await vectors.create("d", 2, "euclid")
    assert {"c", "d"} <= set(await vectors.collections())
    with pytest.raises(Refused, match="'d'"):
        await vectors.create("d", 2)
    assert await vectors.drop("d")
    assert "d" not in await vectors.collections()


async def test_what_is_wrong_is_refused(vectors: VectorDatabase) -> None:
    """An unknown collection is refused, not an outage."""
    assert await vectors.ping() == ""
    with pytest.raises(Refused):
        await vectors.count("nowhere")


@pytest.mark.parametrize("prefer_grpc", [True, False])
async def test_the_engine_refuses_vectors_of_the_wrong_size(
    settings: VectorDatabaseSettings, prefer_grpc: bool
) -> None:
    """A vector of the wrong size is refused in the engine's words."""
    settings = settings.model_copy(update={"prefer_grpc": prefer_grpc})
    async with serving(settings):
        store = connect(settings)
        await store.create("c", 3)
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
                await store.create("kept", 2)
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


@pytest.mark.parametrize("which", ["port", "grpc_port"])
async def test_a_taken_port_is_said(settings: VectorDatabaseSettings, which: str) -> None:
    """A taken port is an error that names it, and leaves nothing behind."""
    with ports.listen(getattr(settings, which)), pytest.raises(NotReady, match=str(getattr(settings, which))):
        async with serving(settings):
            pass
