"""The vector database through Qdrant's own client, over gRPC or REST, or in its memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import TypeVar
from uuid import UUID

import grpc  # type: ignore[import-untyped]  # the package has no types
import httpx
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

from reference_stack.schemas.configuration.vector_database import VectorDatabaseSettings
from reference_stack.services.integration.vector_database.port import (
    Distance,
    Neighbour,
    Point,
    PointId,
    Refused,
    Unavailable,
    Value,
)

Answer = TypeVar("Answer")
_DISTANCES: Mapping[Distance, models.Distance] = {
    "cosine": models.Distance.COSINE,
    "dot": models.Distance.DOT,
    "euclid": models.Distance.EUCLID,
    "manhattan": models.Distance.MANHATTAN,
}
_REFUSALS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.UNIMPLEMENTED,
}


def connect(settings: VectorDatabaseSettings) -> QdrantVectors:
    """Return the vector database that `settings` name."""
    if settings.backend == "mock":
        return QdrantVectors(AsyncQdrantClient(":memory:"), settings.timeout_s)
    client = AsyncQdrantClient(
        url=settings.url,
        grpc_port=settings.grpc_port,
        prefer_grpc=settings.prefer_grpc,
        api_key=settings.api_key.get_secret_value() or None,
        timeout=max(1, round(settings.timeout_s)),
        check_compatibility=False,  # it would ask at once, before anything may be up
        trust_env=False,
    )
    return QdrantVectors(client, settings.timeout_s)


class QdrantVectors:
    """See port.VectorDatabase."""

    def __init__(self, client: AsyncQdrantClient, timeout_s: float) -> None:
        self._client = client
        self._timeout_s = timeout_s

    async def create(self, collection: str, size: int, distance: Distance = "cosine") -> None:
        # The client's memory would replace a collection of that name without a word.
        if await self._ask(self._client.collection_exists(collection)):
            raise Refused(f"there is a collection {collection!r} already")
        parameters = models.VectorParams(size=size, distance=_DISTANCES[distance])
        await self._ask(self._client.create_collection(collection, vectors_config=parameters))

    async def drop(self, collection: str) -> bool:
        return bool(await self._ask(self._client.delete_collection(collection)))

    async def collections(self) -> list[str]:
        return sorted(row.name for row in (await self._ask(self._client.get_collections())).collections)

    async def upsert(self, collection: str, points: Sequence[Point]) -> None:
        rows = [
            models.PointStruct(id=_id_out(point.id), vector=list(point.vector), payload=dict(point.payload))
            for point in points
        ]
        await self._ask(self._client.upsert(collection, rows, wait=True))

    async def search(
        self, collection: str, vector: Sequence[float], limit: int, where: Mapping[str, Value] | None = None
    ) -> list[Neighbour]:
        call = self._client.query_points(
            collection, query=list(vector), limit=limit, query_filter=_filter(where), with_payload=True
        )
        found = await self._ask(call)
        return [Neighbour(_id_in(point.id), point.score, point.payload or {}) for point in found.points]

    async def count(self, collection: str, where: Mapping[str, Value] | None = None) -> int:
        return (await self._ask(self._client.count(collection, count_filter=_filter(where), exact=True))).count

    async def delete(self, collection: str, ids: Sequence[PointId]) -> None:
        selector = models.PointIdsList(points=[_id_out(point_id) for point_id in ids])
        await self._ask(self._client.delete(collection, selector, wait=True))

    async def scroll(
        self, collection: str, limit: int, after: PointId | None = None, where: Mapping[str, Value] | None = None
    ) -> tuple[list[Point], PointId | None]:
        offset = None if after is None else _id_out(after)
        call = self._client.scroll(
            collection, _filter(where), limit, offset=offset, with_payload=True, with_vectors=True
        )
        rows, following = await self._ask(call)
        points = [Point(_id_in(row.id), _dense(row.vector), row.payload or {}) for row in rows]
        return points, None if following is None else _id_in(following)

    async def ping(self) -> str:
        try:
            await self._ask(self._client.get_collections())
        except (Unavailable, Refused) as error:
            return error.message
        return ""

    async def close(self) -> None:
        await self._client.close()

    async def _ask(self, call: Awaitable[Answer]) -> Answer:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await call
        except TimeoutError:
            raise Unavailable("the vector database did not answer in time") from None
        except grpc.aio.AioRpcError as error:
            if error.code() in _REFUSALS:
                raise Refused(f"the vector database refuses: {error.details()}") from error
            raise Unavailable(f"the vector database cannot be asked: {error.code().name}") from error
        except UnexpectedResponse as error:
            if error.status_code is not None and 400 <= error.status_code < 500:
                raise Refused(f"the vector database refuses: {error.content.decode('utf-8', 'replace')}") from error
            raise Unavailable(f"the vector database answers {error.status_code}") from error
        except (ResponseHandlingException, ApiException, httpx.HTTPError, OSError) as error:
            raise Unavailable(f"the vector database cannot be asked: {type(error).__name__}") from error
        except ValueError as error:  # the client's memory and its checks speak so
            raise Refused(f"the vector database refuses: {error}") from error


def _filter(where: Mapping[str, Value] | None) -> models.Filter | None:
    if not where:
        return None
    conditions = [models.FieldCondition(key=key, match=models.MatchValue(value=value)) for key, value in where.items()]
    return models.Filter(must=list(conditions))


def _id_out(point_id: PointId) -> int | str:
    return point_id if isinstance(point_id, int) else str(point_id)


def _id_in(point_id: object) -> PointId:
    return point_id if isinstance(point_id, int) else UUID(str(point_id))


def _dense(vector: object) -> list[float]:
    return list(vector) if isinstance(vector, list) else []
