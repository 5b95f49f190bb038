"""The vector database through Qdrant's own client, over gRPC or REST, or in its memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from qdrant_client import AsyncQdrantClient, models

from reference_stack.schemas.configuration.vector_database import VectorDatabaseSettings
from reference_stack.services.integration.vector_database.port import (
    WRITTEN_AT_ONCE,
    Collection,
    Distance,
    IndexKind,
    Neighbour,
    Point,
    PointId,
    Refused,
    Unavailable,
    Unsupported,
    Where,
)
from reference_stack.services.integration.vector_database.ways import Ways

_DISTANCES: Mapping[Distance, models.Distance] = {
    "cosine": models.Distance.COSINE,
    "dot": models.Distance.DOT,
    "euclid": models.Distance.EUCLID,
    "manhattan": models.Distance.MANHATTAN,
}
_INDEXES: Mapping[IndexKind, models.PayloadSchemaType] = {
    "keyword": models.PayloadSchemaType.KEYWORD,
    "integer": models.PayloadSchemaType.INTEGER,
}
_WORDS = "words"  # the name of the sparse vector; the dense one has none
_RRF_K = 60
_CANDIDATES = 4  # of each order go so many times the limit into the fusion


def connect(settings: VectorDatabaseSettings) -> QdrantVectors:
    """Return the vector database that `settings` name."""
    if settings.backend == "mock":
        return QdrantVectors(Ways([AsyncQdrantClient(":memory:")], settings.timeout_s), indexes=False)
    orders = (True, False) if settings.prefer_grpc else (False,)
    return QdrantVectors(Ways([_client(settings, prefer_grpc=first) for first in orders], settings.timeout_s))


def _client(settings: VectorDatabaseSettings, *, prefer_grpc: bool) -> AsyncQdrantClient:
    return AsyncQdrantClient(
        url=settings.url,
        grpc_port=settings.grpc_port,
        prefer_grpc=prefer_grpc,
        api_key=settings.api_key.get_secret_value() or None,
        timeout=max(1, round(settings.timeout_s)),
        check_compatibility=False,  # it would ask at once, before anything may be up
        trust_env=False,
    )


class QdrantVectors:
    """See port.VectorDatabase. The client's memory has no `indexes` and warns whoever asks for one."""

    def __init__(self, ways: Ways, *, indexes: bool = True) -> None:
        self._ways = ways
        self._indexes = indexes

    async def ensure(self, collection: Collection) -> bool:
        name = collection.name
        if await self._ways.ask(lambda client: client.collection_exists(name)):
            await self._check(collection)
            return False
        vectors = models.VectorParams(size=collection.size, distance=_DISTANCES[collection.distance])
        words = {_WORDS: models.SparseVectorParams(modifier=models.Modifier.IDF)} if collection.words else None
        await self._ways.ask(
            lambda client: client.create_collection(name, vectors_config=vectors, sparse_vectors_config=words)
        )
        if self._indexes:
            await self._index_fields(collection)
        return True

    async def _index_fields(self, collection: Collection) -> None:
        if collection.tenant:
            await self._index(collection.name, collection.tenant, "keyword")
        for field, kind in collection.indexed.items():
            await self._index(collection.name, field, kind)

    async def _index(self, name: str, field: str, kind: IndexKind) -> None:
        await self._ways.ask(lambda client: client.create_payload_index(name, field, _INDEXES[kind], wait=True))

    async def _check(self, wanted: Collection) -> None:
        parameters = (await self._ways.ask(lambda client: client.get_collection(wanted.name))).config.params
        found = parameters.vectors
        size, distance = (found.size, found.distance) if isinstance(found, models.VectorParams) else (0, None)
        words = _WORDS in (parameters.sparse_vectors or {})
        if (size, distance, words) != (wanted.size, _DISTANCES[wanted.distance], wanted.words):
            raise Refused(
                f"the collection {wanted.name!r} is there and has {size} numbers a vector, {distance}, "
                f"{'with' if words else 'without'} words; {wanted.size}, {wanted.distance}, "
                f"{'with' if wanted.words else 'without'} were declared",
                hint="give the collection another name, or drop this one",
            )

    async def drop(self, collection: str) -> bool:
        return bool(await self._ways.ask(lambda client: client.delete_collection(collection)))

    async def collections(self) -> list[str]:
        found = await self._ways.ask(lambda client: client.get_collections())
        return sorted(row.name for row in found.collections)

    async def upsert(self, collection: str, points: Sequence[Point]) -> None:
        for first in range(0, len(points), WRITTEN_AT_ONCE):
            rows = [_row(point) for point in points[first : first + WRITTEN_AT_ONCE]]
            await self._upsert(collection, rows)

    async def _upsert(self, collection: str, rows: list[models.PointStruct]) -> None:
        await self._ways.ask(lambda client: client.upsert(collection, rows, wait=True))

    async def search(
        self, collection: str, vector: Sequence[float], limit: int, where: Where | None = None
    ) -> list[Neighbour]:
        found = await self._ways.ask(
            lambda client: client.query_points(
                collection, query=list(vector), limit=limit, query_filter=_filter(where), with_payload=True
            )
        )
        return [Neighbour(_id_in(point.id), point.score, point.payload or {}) for point in found.points]

    async def search_both(
        self,
        collection: str,
        vector: Sequence[float],
        words: Mapping[int, float],
        limit: int,
        where: Where | None = None,
    ) -> list[Neighbour]:
        condition, most = _filter(where), _CANDIDATES * limit
        orders = [
            models.Prefetch(query=list(vector), filter=condition, limit=most),
            models.Prefetch(query=_sparse(words), using=_WORDS, filter=condition, limit=most),
        ]
        fused = models.RrfQuery(rrf=models.Rrf(k=_RRF_K))
        found = await self._ways.ask(
            lambda client: client.query_points(
                collection, prefetch=orders, query=fused, query_filter=condition, limit=limit, with_payload=True
            )
        )
        return [Neighbour(_id_in(point.id), point.score, point.payload or {}) for point in found.points]

    async def count(self, collection: str, where: Where | None = None) -> int:
        condition = _filter(where)
        return (await self._ways.ask(lambda client: client.count(collection, condition, exact=True))).count

    async def delete(self, collection: str, ids: Sequence[PointId], where: Where | None = None) -> None:
        if not ids:
            return
        chosen: models.PointsSelector = models.PointIdsList(points=[_id_out(point_id) for point_id in ids])
        condition = _filter(where)
        if condition is not None:
            those = models.HasIdCondition(has_id=[_id_out(point_id) for point_id in ids])
            chosen = models.FilterSelector(filter=models.Filter(must=[those, condition]))
        await self._ways.ask(lambda client: client.delete(collection, chosen, wait=True))

    async def scroll(
        self, collection: str, limit: int, after: PointId | None = None, where: Where | None = None
    ) -> tuple[list[Point], PointId | None]:
        offset = None if after is None else _id_out(after)
        rows, following = await self._ways.ask(
            lambda client: client.scroll(
                collection, _filter(where), limit, offset=offset, with_payload=True, with_vectors=True
            )
        )
        return [_point(row) for row in rows], None if following is None else _id_in(following)

    async def snapshot(self, collection: str) -> str:
        try:
            made = await self._ways.ask(lambda client: client.create_snapshot(collection, wait=True))
        except Unsupported as error:
            raise Unsupported("the vector database behind this makes no snapshots") from error
        if made is None:
            raise Refused(f"the vector database made no snapshot of {collection!r}")
        return made.name

    async def ping(self) -> str:
        try:
            await self._ways.ask(lambda client: client.get_collections())
        except (Unavailable, Refused) as error:
            return error.message
        return ""

    async def close(self) -> None:
        await self._ways.close()


def _filter(where: Where | None) -> models.Filter | None:
    if not where:
        return None
    conditions = [models.FieldCondition(key=key, match=models.MatchValue(value=value)) for key, value in where.items()]
    return models.Filter(must=list(conditions))


def _row(point: Point) -> models.PointStruct:
    dense = list(point.vector)
    vector: models.VectorStruct = {"": dense, _WORDS: _sparse(point.words)} if point.words else dense
    return models.PointStruct(id=_id_out(point.id), vector=vector, payload=dict(point.payload))


def _point(row: models.Record) -> Point:
    vectors = row.vector if isinstance(row.vector, dict) else {"": row.vector}
    dense, words = vectors.get(""), vectors.get(_WORDS)
    weights = dict(zip(words.indices, words.values, strict=True)) if isinstance(words, models.SparseVector) else {}
    return Point(_id_in(row.id), _dense(dense), row.payload or {}, weights)


def _sparse(words: Mapping[int, float]) -> models.SparseVector:
    return models.SparseVector(indices=list(words), values=list(words.values()))


def _id_out(point_id: PointId) -> int | str:
    return point_id if isinstance(point_id, int) else str(point_id)


def _id_in(point_id: object) -> PointId:
    return point_id if isinstance(point_id, int) else UUID(str(point_id))


def _dense(vector: object) -> list[float]:
    return list(vector) if isinstance(vector, list) else []
