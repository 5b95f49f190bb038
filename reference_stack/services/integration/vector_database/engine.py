"""Qdrant's engine in this process: collections in folders, spoken to in the words of Qdrant's REST schema."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn, TypeVar
from uuid import UUID

import qdrant_edge as edge
from qdrant_client import models

from reference_stack.services.integration.vector_database import questions
from reference_stack.services.integration.vector_database.filters import UnknownCondition, to_edge

Answer = TypeVar("Answer")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_DISTANCES = {
    models.Distance.COSINE: edge.Distance.Cosine,
    models.Distance.DOT: edge.Distance.Dot,
    models.Distance.EUCLID: edge.Distance.Euclid,
    models.Distance.MANHATTAN: edge.Distance.Manhattan,
}
_INDEXES = {"keyword": edge.PayloadSchemaType.Keyword, "integer": edge.PayloadSchemaType.Integer}
# Qdrant's defaults: a client asks to see them.
_HNSW = models.HnswConfig(m=16, ef_construct=100, full_scan_threshold=10_000)
_WAL = models.WalConfig(wal_capacity_mb=32, wal_segments_ahead=0)
_OPTIMIZER = models.OptimizersConfig(
    deleted_threshold=0.2, vacuum_min_vector_number=1000, default_segment_number=0, flush_interval_sec=5
)


class EngineError(Exception):
    """Why the engine does not do what it was asked; `status` is the HTTP status that says so."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class Engine:
    """Collections of one dense vector a point, and sparse ones by name, one folder each in `folder`.

    Those that are there are opened.

    Calls are short and may come from any thread. Raises EngineError.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        self._shards = {
            entry.name: edge.EdgeShard.load(str(entry)) for entry in sorted(folder.iterdir()) if entry.is_dir()
        }

    def close(self) -> None:
        for shard in self._shards.values():
            shard.close()
        self._shards.clear()

    def names(self) -> list[str]:
        return sorted(self._shards)

    def exists(self, name: str) -> bool:
        return name in self._shards

    def create(self, name: str, vectors: object, sparse: Mapping[str, models.SparseVectorParams] | None = None) -> None:
        if not _NAME.fullmatch(name):
            raise EngineError(f"Wrong input: collection name {name[:80]!r} has characters that are not allowed", 422)
        if not isinstance(vectors, models.VectorParams):
            raise EngineError("Wrong input: the embedded engine has one unnamed dense vector a point")
        config = edge.EdgeConfig(
            vectors=edge.EdgeVectorParams(size=vectors.size, distance=_DISTANCES[vectors.distance]),
            sparse_vectors={
                word: edge.EdgeSparseVectorParams(
                    modifier=edge.Modifier.Idf if row.modifier is models.Modifier.IDF else None
                )
                for word, row in (sparse or {}).items()
            },
        )
        with self._lock:
            if name in self._shards:
                raise EngineError(f"Wrong input: Collection `{name}` already exists!", 409)
            self._shards[name] = self._do(lambda: edge.EdgeShard.create(str(self._folder / name), config))

    def drop(self, name: str) -> bool:
        with self._lock:
            shard = self._shards.pop(name, None)
        if shard is None:
            return False
        shard.close()
        shutil.rmtree(self._folder / name, ignore_errors=True)
        return True

    def info(self, name: str) -> models.CollectionInfo:
        """Return what a collection is and holds, in Qdrant's words; how it is indexed is not told."""
        found = self._do(self._shard(name).info)
        declared = json.loads((self._folder / name / "edge_config.json").read_text(encoding="utf-8"))
        vectors = declared["vectors"][""]
        sparse = {
            word: models.SparseVectorParams(modifier=row.get("modifier"))
            for word, row in declared.get("sparse_vectors", {}).items()
        }
        parameters = models.CollectionParams(
            vectors=models.VectorParams(size=vectors["size"], distance=vectors["distance"]), sparse_vectors=sparse
        )
        return models.CollectionInfo(
            status=models.CollectionStatus.GREEN,
            optimizer_status=models.OptimizersStatusOneOf.OK,
            points_count=found.points_count,
            segments_count=found.segments_count,
            config=models.CollectionConfig(
                params=parameters, hnsw_config=_HNSW, optimizer_config=_OPTIMIZER, wal_config=_WAL
            ),
            payload_schema={},
        )

    def index(self, name: str, field: str, schema: object) -> None:
        """Make filters on `field` of the payload fast."""
        kind = _INDEXES.get(str(getattr(schema, "value", schema)))
        if kind is None:
            raise EngineError("Not implemented: the embedded engine indexes words and whole numbers", 501)
        shard = self._shard(name)
        self._do(lambda: shard.update(edge.UpdateOperation.create_field_index(field, kind)))

    def snapshot(self, name: str) -> NoReturn:
        self._shard(name)
        raise EngineError("Not implemented: the embedded engine makes no snapshots; copy its folder at rest", 501)

    def upsert(self, name: str, points: list[models.PointStruct]) -> None:
        shard = self._shard(name)

        def work() -> None:
            rows = [edge.Point(id=point.id, vector=questions.vectors(point), payload=point.payload) for point in points]
            shard.update(edge.UpdateOperation.upsert_points(rows))

        self._do(work)

    def delete(self, name: str, selector: models.PointsSelector) -> None:
        shard = self._shard(name)
        if isinstance(selector, models.FilterSelector):
            operation = edge.UpdateOperation.delete_points_by_filter(to_edge(selector.filter))
        elif isinstance(selector, models.PointIdsList):
            ids = list(selector.points)
            operation = self._do(lambda: edge.UpdateOperation.delete_points(ids))
        self._do(lambda: shard.update(operation))

    def query(self, name: str, request: models.QueryRequest) -> list[models.ScoredPoint]:
        shard = self._shard(name)
        rows = self._do(lambda: shard.query(questions.query(request)))
        return [
            models.ScoredPoint(
                id=_id(row.id),
                version=row.version,
                score=row.score,
                payload=row.payload,
                vector=questions.out(row.vector),
            )
            for row in rows
        ]

    def count(self, name: str, condition: models.Filter | None) -> int:
        shard = self._shard(name)
        request = edge.CountRequest(exact=True, filter=None if condition is None else to_edge(condition))
        return self._do(lambda: shard.count(request))

    def scroll(self, name: str, request: models.ScrollRequest) -> models.ScrollResult:
        shard = self._shard(name)
        wanted = self._do(
            lambda: edge.ScrollRequest(
                offset=request.offset,
                limit=10 if request.limit is None else request.limit,
                filter=None if request.filter is None else to_edge(request.filter),
                with_payload=questions.payload(request.with_payload),
                with_vector=bool(request.with_vector),
            )
        )
        rows, following = self._do(lambda: shard.scroll(wanted))
        return models.ScrollResult(
            points=[_record(row) for row in rows], next_page_offset=None if following is None else _id(following)
        )

    def retrieve(self, name: str, request: models.PointRequest) -> list[models.Record]:
        shard = self._shard(name)
        payload, vector = questions.payload(request.with_payload), bool(request.with_vector)
        return [_record(row) for row in self._do(lambda: shard.retrieve(list(request.ids), payload, vector))]

    def _shard(self, name: str) -> edge.EdgeShard:
        shard = self._shards.get(name)
        if shard is None:
            raise EngineError(f"Not found: Collection `{name[:80]}` doesn't exist!", 404)
        return shard

    @staticmethod
    def _do(work: Callable[[], Answer]) -> Answer:
        try:
            return work()
        except UnknownCondition:
            raise
        except Exception as error:  # the engine has no errors of its own but Exception and ValueError
            raise EngineError(f"Wrong input: {error}") from error


def _record(row: edge.Record) -> models.Record:
    return models.Record(id=_id(row.id), payload=row.payload, vector=questions.out(row.vector))


def _id(point_id: int | UUID | str) -> int | str:
    return point_id if isinstance(point_id, int) else str(point_id)
