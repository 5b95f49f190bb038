"""One tenant's documents in one store: put there in passages, listed, taken away, and searched."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from reference_stack.services.infrastructure.api_gateway.retrieval.passages import passages
from reference_stack.services.integration.vector_database import embedding
from reference_stack.services.integration.vector_database.port import (
    WRITTEN_AT_ONCE,
    Collection,
    Neighbour,
    Point,
    Refused,
    Value,
    VectorDatabase,
)
from reference_stack.services.integration.vector_database.tenants import TenantVectors

_SPACE = uuid.UUID("0d0e4d0a-7a5c-5a0c-9a43-3f0a9a7f6b52")
_PAGE = 200
_GONE = -1  # the number of what takes the place of a passage that is about to be deleted


@dataclass(frozen=True, slots=True)
class Document:
    """A text by its `id`, unique in its tenant's part of a store. `attributes` are what searches may ask for."""

    id: str
    name: str
    text: str
    attributes: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Kept:
    """A document that is in a store; not `whole` when who put it there was killed: it may be partly an earlier one."""

    id: str
    name: str
    passages: int
    attributes: Mapping[str, Value]
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Passage:
    """Part of a document that answers a question; of two scores of one search the higher is the better."""

    document: str
    name: str
    text: str
    score: float
    attributes: Mapping[str, Value]


def collection_of(store: str) -> Collection:
    """Return what a store is in the vector database."""
    name = f"hxp_documents_{store}"
    return Collection(name, embedding.SIZE, words=True, indexed={"document": "keyword"}, tenant="tenant")


class Shelf:
    """What `tenant` has in `store`. Raises what port.VectorDatabase does, and Refused for a tenant without a name."""

    def __init__(self, vectors: VectorDatabase, store: str, tenant: str) -> None:
        self._vectors = vectors
        self._collection = collection_of(store)
        self._own = TenantVectors(vectors, self._collection, tenant)

    async def put(self, document: Document) -> int:
        """Keep a document, in the place of the one with its id; return of how many passages it is.

        One write replaces all of a document of up to WRITTEN_AT_ONCE passages, before and now, so that a caller that is
        killed leaves the one or the other. A longer one may be left mixed, which `documents` tells; put it again.
        """
        await self._vectors.ensure(self._collection)
        had = await self._count(document.id)
        texts = passages(document.text)
        facts: dict[str, object] = {
            "document": document.id,
            "name": document.name,
            "attributes": dict(document.attributes),
            "passages": len(texts),
            "version": uuid.uuid4().hex,
        }
        points = [
            Point(
                _id(document.id, number),
                embedding.dense(text),
                {**facts, "text": text, "number": number},
                embedding.sparse(text),
            )
            for number, text in enumerate(texts)
        ]
        surplus = [_id(document.id, number) for number in range(len(texts), had)]
        gone = {"document": document.id, "text": "", "number": _GONE}
        await self._own.upsert([*points, *(Point(each, embedding.dense(""), gone) for each in surplus)])
        await self._own.delete(surplus)
        return len(texts)

    async def remove(self, document: str) -> bool:
        """Take a document away; False when it is not there."""
        if not await self._there():
            return False
        had = await self._count(document)
        await self._own.delete([_id(document, number) for number in range(had)])
        return had > 0

    async def documents(self, page: int = _PAGE) -> AsyncIterator[Kept]:
        """Yield what is there, each document once; `page` are asked for at once."""
        after = None
        while await self._there():
            points, after = await self._own.scroll(page, after, {"number": 0})
            for point in points:
                said = point.payload
                count, whole = _count_in(said), await self._whole(said)
                yield Kept(str(said["document"]), str(said["name"]), count, _attributes(said), whole)
            if after is None:
                return

    async def search(self, question: str, limit: int, where: Mapping[str, Value]) -> Sequence[Passage]:
        """Return at most `limit` passages, the best first, of documents whose attributes are as `where` says."""
        asked = {f"attributes.{key}": value for key, value in where.items()}
        try:
            found = await self._own.search_both(embedding.dense(question), embedding.sparse(question), limit, asked)
        except Refused:
            if await self._there():
                raise
            return []  # nobody put anything there
        return [_passage(row) for row in found if row.payload["text"]]

    async def _there(self) -> bool:
        return self._collection.name in await self._vectors.collections()

    async def _count(self, document: str) -> int:
        return await self._own.count({"document": document})

    async def _whole(self, first: Mapping[str, object]) -> bool:
        """Whether all that is kept of a document, whose first passage says `first`, was put there together."""
        document, count = str(first["document"]), _count_in(first)
        if count > WRITTEN_AT_ONCE:
            version = str(first.get("version", ""))
            if await self._own.count({"document": document, "version": version}) != count:
                return False
        return await self._count(document) == count


def _passage(row: Neighbour) -> Passage:
    said = row.payload
    return Passage(str(said["document"]), str(said["name"]), str(said["text"]), row.score, _attributes(said))


def _attributes(payload: Mapping[str, object]) -> Mapping[str, Value]:
    said = payload.get("attributes")
    found = said if isinstance(said, Mapping) else {}
    return {str(key): value for key, value in found.items() if isinstance(value, str | int)}


def _count_in(payload: Mapping[str, object]) -> int:
    said = payload.get("passages")
    return said if isinstance(said, int) else 0


def _id(document: str, number: int) -> uuid.UUID:
    return uuid.uuid5(_SPACE, f"{number}:{document}")
