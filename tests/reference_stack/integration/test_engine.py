"""Promises of the embedded engine behind Qdrant's API, asked through Qdrant's own client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from qdrant_client import AsyncQdrantClient, models

from reference_stack.orchestration import ports
from reference_stack.schemas.configuration.vector_database import VectorDatabaseSettings
from reference_stack.services.integration.vector_database.embedded import serving
from reference_stack.services.integration.vector_database.engine import Engine, EngineError
from reference_stack.services.integration.vector_database.filters import UnknownCondition, to_edge

PARAMETERS = models.VectorParams(size=2, distance=models.Distance.DOT)
POINTS = [
    models.PointStruct(id=number, vector=[float(number), 0.0], payload=payload)
    for number, payload in enumerate(
        [
            {"n": 0, "tag": "a", "at": "2026-01-01T00:00:00Z"},
            {"n": 1, "tag": "b", "text": "a quick fox", "at": "2026-02-01T00:00:00Z"},
            {"n": 2, "tag": "c", "none": None},
            {"n": 3},
        ]
    )
]


@pytest.fixture(params=["grpc", "rest"])
async def client(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AsyncQdrantClient]:
    """The unmodified client, over both ways, with a collection of four points."""
    rest, grpc = ports.reserve(), ports.reserve()
    async with serving(VectorDatabaseSettings(port=rest.port, grpc_port=grpc.port, folder=tmp_path)) as engine:
        engine.create("c", PARAMETERS)
        engine.upsert("c", POINTS)
        made = AsyncQdrantClient(
            url=f"http://127.0.0.1:{rest.port}",
            grpc_port=grpc.port,
            prefer_grpc=request.param == "grpc",
            check_compatibility=False,
            trust_env=False,
            timeout=10,
        )
        yield made
        await made.close()
    rest.close()
    grpc.close()


def field(key: str, **what: object) -> models.FieldCondition:
    return models.FieldCondition.model_validate({"key": key, **what})


@pytest.mark.parametrize(
    ("condition", "ids"),
    [
        (models.Filter(must=[field("tag", match={"value": "a"})]), [0]),
        (models.Filter(should=[field("tag", match={"value": "a"}), field("n", match={"value": 3})]), [0, 3]),
        (models.Filter(must_not=[field("tag", match={"any": ["a", "b"]})]), [2, 3]),
        (models.Filter(must=[field("tag", match={"except": ["a", "b"]})]), [2]),
        (models.Filter(must=[field("text", match={"text": "quick"})]), [1]),
        (models.Filter(must=[field("n", range={"gt": 0, "lte": 2})]), [1, 2]),
        (models.Filter(must=[field("at", range={"gte": "2026-01-15T00:00:00Z"})]), [1]),
        (models.Filter(must=[models.HasIdCondition(has_id=[3, 9])]), [3]),
        (models.Filter(must=[models.IsEmptyCondition(is_empty=models.PayloadField(key="tag"))]), [3]),
        (models.Filter(must=[models.IsNullCondition(is_null=models.PayloadField(key="none"))]), [2]),
        (models.Filter(must=[models.Filter(must_not=[field("n", match={"value": 0})])]), [1, 2, 3]),
        (
            models.Filter(
                min_should=models.MinShould(
                    conditions=[field("tag", match={"value": "b"}), field("n", range={"gte": 1})], min_count=2
                )
            ),
            [1],
        ),
    ],
)
async def test_filters_mean_what_they_mean_in_qdrant(
    client: AsyncQdrantClient, condition: models.Filter, ids: list[int]
) -> None:
    """Every kind of condition that we pass on selects what Qdrant's documentation says."""
    rows, _ = await client.scroll("c", condition, limit=10)
    assert [row.id for row in rows] == ids
    assert (await client.count("c", condition)).count == len(ids)


async def test_points_are_retrieved_with_what_was_asked(client: AsyncQdrantClient) -> None:
    """A retrieval has payload and vector only where they were wanted."""
    (bare,) = await client.retrieve("c", [1], with_payload=False)
    assert not bare.payload
    (full,) = await client.retrieve("c", [1], with_payload=["n"], with_vectors=True)
    assert full.payload == {"n": 1}
    assert full.vector == [1.0, 0.0]


async def test_a_search_has_offset_threshold_and_limit(client: AsyncQdrantClient) -> None:
    """Offset, limit and score threshold cut the list of neighbours."""
    found = await client.query_points("c", query=[1.0, 0.0], limit=2, offset=1, with_vectors=True, with_payload=["n"])
    assert [(row.id, row.score, row.payload) for row in found.points] == [(2, 2.0, {"n": 2}), (1, 1.0, {"n": 1})]
    silent = await client.query_points("c", query=[1.0, 0.0], limit=1, with_payload=False)
    assert not silent.points[0].payload
    above = await client.query_points("c", query=[1.0, 0.0], score_threshold=2.5)
    assert [row.id for row in above.points] == [3]


async def test_deleting_by_filter_and_the_size_of_a_collection(client: AsyncQdrantClient) -> None:
    """Points can be removed by a filter, and a collection tells how many it has."""
    await client.delete("c", models.FilterSelector(filter=models.Filter(must=[field("n", range={"lt": 2})])))
    assert (await client.count("c")).count == 2
    assert await client.collection_exists("c")
    assert not await client.collection_exists("d")


async def test_what_the_engine_lacks_is_refused_in_words(client: AsyncQdrantClient) -> None:
    """Other questions, excluded payload keys and unknown conditions and indexes are refused, never ignored."""
    for call in (
        client.query_points("c", query=models.SampleQuery(sample=models.Sample.RANDOM)),
        client.query_points("c", query=models.FusionQuery(fusion=models.Fusion.DBSF)),
        client.query_points("c", query=[1.0, 0.0], lookup_from=models.LookupLocation(collection="d")),
        client.create_payload_index("c", "n", models.PayloadSchemaType.GEO),
        client.create_snapshot("c"),
        client.scroll("c", with_payload=models.PayloadSelectorExclude(exclude=["n"])),
        client.count("c", models.Filter(must=[field("n", values_count={"gt": 1})])),
    ):
        with pytest.raises(Exception, match=r"(?i)embedded engine|not implemented|method not found"):
            await call


async def test_orders_are_fused_and_scored_again(client: AsyncQdrantClient) -> None:
    """Prefetched orders are fused by either form of reciprocal rank, or scored again by the last question."""
    near, far = models.Prefetch(query=[1.0, 0.0], limit=4), models.Prefetch(query=[-1.0, 0.0], limit=1)
    for fusion in (models.FusionQuery(fusion=models.Fusion.RRF), models.RrfQuery(rrf=models.Rrf())):
        fused = await client.query_points("c", prefetch=[near, far], query=fusion, limit=4)
        assert fused.points[0].id in {0, 3}
        assert {row.id for row in fused.points} == {0, 1, 2, 3}
    again = await client.query_points("c", prefetch=near, query=models.NearestQuery(nearest=[-1.0, 0.0]), limit=4)
    assert [row.id for row in again.points] == [0, 1, 2, 3]


async def test_a_collection_tells_what_it_is(client: AsyncQdrantClient) -> None:
    """Size, distance and sparse vectors of a collection are told as they were declared."""
    words = {"words": models.SparseVectorParams(modifier=models.Modifier.IDF)}
    await client.create_collection("d", PARAMETERS, sparse_vectors_config=words)
    found = (await client.get_collection("d")).config.params
    assert isinstance(found.vectors, models.VectorParams)
    assert (found.vectors.size, found.vectors.distance) == (2, models.Distance.DOT)
    assert found.sparse_vectors is not None
    assert found.sparse_vectors["words"].modifier is models.Modifier.IDF
    assert (await client.get_collection("c")).points_count == 4


def test_wrong_names_and_vectors_are_refused(tmp_path: Path) -> None:
    """A name that is no file name, several vectors a point, or something else than numbers is refused."""
    engine = Engine(tmp_path)
    for name, vectors in (("../x", PARAMETERS), ("x", {"a": PARAMETERS})):
        with pytest.raises(EngineError, match="Wrong input"):
            engine.create(name, vectors)
    engine.create("c", PARAMETERS)
    with pytest.raises(EngineError, match="already exists") as twice:
        engine.create("c", PARAMETERS)
    assert twice.value.status == 409
    for vector, words in (({"a": [1.0]}, "Not existing vector name"), ([[1.0, 0.0]], "one dense vector")):
        with pytest.raises(EngineError, match=words):
            engine.upsert("c", [models.PointStruct(id=1, vector=vector)])
    assert engine.info("c").points_count == 0
    assert engine.names() == ["c"]
    engine.close()


def test_unknown_matches_are_refused() -> None:
    """A kind of match that the engine is not asked is refused by its name."""
    with pytest.raises(UnknownCondition, match="MatchPhrase"):
        to_edge(models.Filter(must=models.FieldCondition(key="x", match=models.MatchPhrase(phrase="a b"))))
