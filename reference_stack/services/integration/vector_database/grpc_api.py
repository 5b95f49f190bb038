"""Qdrant's gRPC API over the embedded engine; what is not here answers UNIMPLEMENTED."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NoReturn, Protocol, TypeVar

import grpc  # type: ignore[import-untyped]  # the package has no types
from qdrant_client import grpc as q
from qdrant_client import models
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc
from qdrant_client.grpc.collections_service_pb2_grpc import CollectionsServicer, add_CollectionsServicer_to_server
from qdrant_client.grpc.points_service_pb2_grpc import PointsServicer, add_PointsServicer_to_server
from qdrant_client.grpc.qdrant_pb2_grpc import QdrantServicer, add_QdrantServicer_to_server

from reference_stack.services.integration.vector_database.engine import Engine, EngineError
from reference_stack.services.integration.vector_database.filters import UnknownCondition
from reference_stack.services.integration.vector_database.rest import VERSION

Answer = TypeVar("Answer")
Row = TypeVar("Row", models.Record, models.ScoredPoint)
_CODES = {
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.ALREADY_EXISTS,
    501: grpc.StatusCode.UNIMPLEMENTED,
}


class _Context(Protocol):
    async def abort(self, code: object, details: str) -> NoReturn: ...


def add_to(server: grpc.aio.Server, engine: Engine) -> None:
    """Let `server` answer for `engine`."""
    add_QdrantServicer_to_server(_Health(), server)  # type: ignore[no-untyped-call]  # generated, untyped
    add_CollectionsServicer_to_server(_Collections(engine), server)  # type: ignore[no-untyped-call]  # generated, untyped
    add_PointsServicer_to_server(_Points(engine), server)  # type: ignore[no-untyped-call]  # generated, untyped


async def _answer(context: _Context, work: Callable[[], Answer]) -> Answer:
    """Return what `work` does in a thread; what it refuses becomes a status."""
    try:
        return await asyncio.to_thread(work)
    except EngineError as error:
        code = _CODES.get(error.status, grpc.StatusCode.INVALID_ARGUMENT)
        await context.abort(code, str(error))
    except UnknownCondition as error:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, str(error))
    except ValueError as error:  # a message that the converters cannot read
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error)[:300])


class _Health(QdrantServicer):
    async def HealthCheck(self, _request: q.HealthCheckRequest, _context: _Context) -> q.HealthCheckReply:  # noqa: N802 - Qdrant's name
        return q.HealthCheckReply(title="embedded vector store", version=VERSION)


class _Collections(CollectionsServicer):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def List(self, _request: q.ListCollectionsRequest, _context: _Context) -> q.ListCollectionsResponse:  # noqa: N802 - Qdrant's name
        rows = [q.CollectionDescription(name=name) for name in self._engine.names()]
        return q.ListCollectionsResponse(collections=rows)

    async def CollectionExists(  # noqa: N802 - Qdrant's name
        self, request: q.CollectionExistsRequest, _context: _Context
    ) -> q.CollectionExistsResponse:
        exists = self._engine.exists(request.collection_name)
        return q.CollectionExistsResponse(result=q.CollectionExists(exists=exists))

    async def Create(self, request: q.CreateCollection, context: _Context) -> q.CollectionOperationResponse:  # noqa: N802 - Qdrant's name
        def work() -> q.CollectionOperationResponse:
            sparse = GrpcToRest.convert_sparse_vector_config(request.sparse_vectors_config)
            vectors = GrpcToRest.convert_vectors_config(request.vectors_config)
            self._engine.create(request.collection_name, vectors, sparse)
            return q.CollectionOperationResponse(result=True)

        return await _answer(context, work)

    async def Delete(self, request: q.DeleteCollection, context: _Context) -> q.CollectionOperationResponse:  # noqa: N802 - Qdrant's name
        def work() -> q.CollectionOperationResponse:
            return q.CollectionOperationResponse(result=self._engine.drop(request.collection_name))

        return await _answer(context, work)

    async def Get(self, request: q.GetCollectionInfoRequest, context: _Context) -> q.GetCollectionInfoResponse:  # noqa: N802 - Qdrant's name
        def work() -> q.GetCollectionInfoResponse:
            info = RestToGrpc.convert_collection_info(self._engine.info(request.collection_name))
            return q.GetCollectionInfoResponse(result=info)

        return await _answer(context, work)


class _Points(PointsServicer):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def CreateFieldIndex(  # noqa: N802 - Qdrant's name
        self, request: q.CreateFieldIndexCollection, context: _Context
    ) -> q.PointsOperationResponse:
        def work() -> q.PointsOperationResponse:
            kind = q.FieldType.Name(request.field_type).removeprefix("FieldType").lower()
            self._engine.index(request.collection_name, request.field_name, kind)
            return _done()

        return await _answer(context, work)

    async def Upsert(self, request: q.UpsertPoints, context: _Context) -> q.PointsOperationResponse:  # noqa: N802 - Qdrant's name
        def work() -> q.PointsOperationResponse:
            points = [GrpcToRest.convert_point_struct(point) for point in request.points]
            self._engine.upsert(request.collection_name, points)
            return _done()

        return await _answer(context, work)

    async def Delete(self, request: q.DeletePoints, context: _Context) -> q.PointsOperationResponse:  # noqa: N802 - Qdrant's name
        def work() -> q.PointsOperationResponse:
            self._engine.delete(request.collection_name, GrpcToRest.convert_points_selector(request.points))
            return _done()

        return await _answer(context, work)

    async def Query(self, request: q.QueryPoints, context: _Context) -> q.QueryResponse:  # noqa: N802 - Qdrant's name
        def work() -> q.QueryResponse:
            found = self._engine.query(request.collection_name, GrpcToRest.convert_query_points(request))
            return q.QueryResponse(result=[RestToGrpc.convert_scored_point(_with_room(row)) for row in found])

        return await _answer(context, work)

    async def Count(self, request: q.CountPoints, context: _Context) -> q.CountResponse:  # noqa: N802 - Qdrant's name
        def work() -> q.CountResponse:
            condition = GrpcToRest.convert_filter(request.filter) if request.HasField("filter") else None
            count = self._engine.count(request.collection_name, condition)
            return q.CountResponse(result=q.CountResult(count=count))

        return await _answer(context, work)

    async def Get(self, request: q.GetPoints, context: _Context) -> q.GetResponse:  # noqa: N802 - Qdrant's name
        def work() -> q.GetResponse:
            wanted = models.PointRequest(
                ids=[GrpcToRest.convert_point_id(point_id) for point_id in request.ids],
                with_payload=_with_payload(request),
                with_vector=_with_vectors(request),
            )
            rows = self._engine.retrieve(request.collection_name, wanted)
            return q.GetResponse(result=[RestToGrpc.convert_record(_with_room(row)) for row in rows])

        return await _answer(context, work)

    async def Scroll(self, request: q.ScrollPoints, context: _Context) -> q.ScrollResponse:  # noqa: N802 - Qdrant's name
        def work() -> q.ScrollResponse:
            wanted = models.ScrollRequest(
                offset=GrpcToRest.convert_point_id(request.offset) if request.HasField("offset") else None,
                limit=request.limit if request.HasField("limit") else None,
                filter=GrpcToRest.convert_filter(request.filter) if request.HasField("filter") else None,
                with_payload=_with_payload(request),
                with_vector=_with_vectors(request),
            )
            found = self._engine.scroll(request.collection_name, wanted)
            following = found.next_page_offset
            return q.ScrollResponse(
                result=[RestToGrpc.convert_record(_with_room(row)) for row in found.points],
                next_page_offset=None if following is None else RestToGrpc.convert_extended_point_id(following),
            )

        return await _answer(context, work)


def _with_payload(request: q.GetPoints | q.ScrollPoints) -> models.WithPayloadInterface:
    wanted = request.HasField("with_payload")
    return GrpcToRest.convert_with_payload_interface(request.with_payload) if wanted else False


def _with_vectors(request: q.GetPoints | q.ScrollPoints) -> models.WithVector:
    wanted = request.HasField("with_vectors")
    return GrpcToRest.convert_with_vectors_selector(request.with_vectors) if wanted else False


def _with_room(row: Row) -> Row:
    """The converters stumble over a row without a payload; the wire says nothing as an empty one."""
    return row if row.payload is not None else row.model_copy(update={"payload": {}})


def _done() -> q.PointsOperationResponse:
    result = q.UpdateResult(operation_id=time.monotonic_ns(), status=q.UpdateStatus.Completed)
    return q.PointsOperationResponse(result=result)
