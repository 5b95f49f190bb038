"""Questions and vectors, from the words of Qdrant's REST schema to the engine's own."""

from __future__ import annotations

from collections.abc import Sequence

import qdrant_edge as edge
from qdrant_client import models

from reference_stack.services.integration.vector_database.filters import UnknownCondition, to_edge

_DEFAULT_LIMIT = 10
_DEFAULT_RRF_K = 2  # Qdrant's


def query(request: models.QueryRequest) -> edge.QueryRequest:
    """Return `request` for the engine: the nearest to a vector, or several orders of those fused by rank.

    Raises UnknownCondition for what the embedded engine is not asked, ValueError for what is no vector.
    """
    if request.lookup_from:
        raise UnknownCondition("the embedded engine knows no lookup_from")
    return edge.QueryRequest(
        limit=_DEFAULT_LIMIT if request.limit is None else request.limit,
        offset=request.offset,
        query=_asked(request.query, request.using),
        prefetches=_prefetches(request.prefetch),
        filter=None if request.filter is None else to_edge(request.filter),
        score_threshold=request.score_threshold,
        with_vector=bool(request.with_vector),
        with_payload=payload(request.with_payload),
    )


def _prefetches(asked: Sequence[models.Prefetch] | models.Prefetch | None) -> list[edge.Prefetch] | None:
    if asked is None:
        return None
    rows = [asked] if isinstance(asked, models.Prefetch) else asked
    return [
        edge.Prefetch(
            limit=_DEFAULT_LIMIT if row.limit is None else row.limit,
            query=_asked(row.query, row.using),
            prefetches=_prefetches(row.prefetch),
            filter=None if row.filter is None else to_edge(row.filter),
            score_threshold=row.score_threshold,
        )
        for row in rows
    ]


def _asked(asked: object, using: str | None) -> edge.Query | edge.Fusion:
    match asked:
        case models.RrfQuery():
            k = _DEFAULT_RRF_K if asked.rrf.k is None else asked.rrf.k
            return _rrf(k, asked.rrf.weights)
        case models.FusionQuery(fusion=models.Fusion.RRF):
            return _rrf(_DEFAULT_RRF_K)
        case models.NearestQuery():
            return edge.Query.Nearest(_vector(asked.nearest), using=using)
        case models.SparseVector() | list():
            return edge.Query.Nearest(_vector(asked), using=using)
    raise UnknownCondition(f"the embedded engine does not know the question {type(asked).__name__}")


def _rrf(k: int, weights: list[float] | None = None) -> edge.Fusion:
    return edge.Fusion.Rrf(k=k, weights=weights)  # type: ignore[return-value]  # the stub does not know it as a Fusion


def _vector(vector: object) -> list[float] | edge.SparseVector:
    if isinstance(vector, models.SparseVector):
        return edge.SparseVector(list(vector.indices), [float(value) for value in vector.values])
    return dense(vector)


def dense(vector: object) -> list[float]:
    """Return `vector` as numbers. Raises ValueError."""
    if not isinstance(vector, list) or not vector or not all(isinstance(number, float | int) for number in vector):
        raise ValueError("the embedded engine takes one dense vector, a list of numbers")
    return [float(number) for number in vector]


def vectors(point: models.PointStruct) -> list[float] | dict[str, list[float] | edge.SparseVector | list[list[float]]]:
    """Return the vectors of `point` for the engine: one dense one without a name, and sparse ones."""
    if isinstance(point.vector, dict):
        return {name: _vector(vector) for name, vector in point.vector.items()}
    return dense(point.vector)


def payload(wanted: object) -> bool | list[str]:
    """Return which keys of the payload are wanted. Raises UnknownCondition for all but some."""
    if isinstance(wanted, models.PayloadSelectorInclude):
        return wanted.include
    if isinstance(wanted, models.PayloadSelectorExclude):
        raise UnknownCondition("the embedded engine cannot leave keys of a payload out")
    return wanted if isinstance(wanted, bool | list) else False


def out(vector: object) -> models.VectorStructOutput | None:
    """Return a vector of the engine in REST's words; one that is alone and has no name stands by itself."""
    if isinstance(vector, dict):
        named: dict[str, list[float] | models.SparseVector | list[list[float]]] = {
            name: _out_one(one) for name, one in vector.items()
        }
        return named if set(named) != {""} else dense(vector[""])
    return dense(vector) if isinstance(vector, list) else None


def _out_one(vector: object) -> list[float] | models.SparseVector:
    if isinstance(vector, edge.SparseVector):
        return models.SparseVector(indices=list(vector.indices), values=[float(value) for value in vector.values])
    return dense(vector)
