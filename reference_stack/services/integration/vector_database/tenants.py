"""One tenant's part of a collection: whatever is asked, nothing of another tenant is seen or touched."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace

from reference_stack.services.integration.vector_database.port import (
    Collection,
    Neighbour,
    Point,
    PointId,
    Refused,
    VectorDatabase,
    Where,
)

_SPACE = uuid.UUID("6f3d1d36-0f0c-5a39-9d3e-0c4b7a1f5a10")


class TenantVectors:
    """What port.VectorDatabase does with points, for `tenant` alone.

    The tenant's mark is written over whatever a payload says, and is a condition of every question beside those that
    are asked. Two tenants' points of the same id are two points. Raises Refused for a collection without tenants and
    for a tenant without a name.
    """

    def __init__(self, store: VectorDatabase, collection: Collection, tenant: str) -> None:
        if not collection.tenant:
            raise Refused(f"the collection {collection.name!r} is declared without tenants")
        if not tenant:
            raise Refused(f"the collection {collection.name!r} is asked for a tenant only, and none was named")
        self._store = store
        self._name = collection.name
        self._field = collection.tenant
        self._tenant = tenant

    async def upsert(self, points: Sequence[Point]) -> None:
        own = [
            replace(point, id=self._id(point.id), payload={**point.payload, self._field: self._tenant})
            for point in points
        ]
        await self._store.upsert(self._name, own)

    async def search(self, vector: Sequence[float], limit: int, where: Where | None = None) -> list[Neighbour]:
        if self._elsewhere(where):
            return []
        return await self._store.search(self._name, vector, limit, self._where(where))

    async def search_both(
        self, vector: Sequence[float], words: Mapping[int, float], limit: int, where: Where | None = None
    ) -> list[Neighbour]:
        if self._elsewhere(where):
            return []
        return await self._store.search_both(self._name, vector, words, limit, self._where(where))

    async def count(self, where: Where | None = None) -> int:
        return 0 if self._elsewhere(where) else await self._store.count(self._name, self._where(where))

    async def scroll(
        self, limit: int, after: PointId | None = None, where: Where | None = None
    ) -> tuple[list[Point], PointId | None]:
        """Return points in the order of ids that are not the tenant's own; `after` is what a call before gave."""
        if self._elsewhere(where):
            return [], None
        return await self._store.scroll(self._name, limit, after, self._where(where))

    async def delete(self, ids: Sequence[PointId]) -> None:
        await self._store.delete(self._name, [self._id(point_id) for point_id in ids], self._where(None))

    def _id(self, point_id: PointId) -> uuid.UUID:
        return uuid.uuid5(_SPACE, f"{len(self._tenant)}:{self._tenant}:{point_id}")

    def _where(self, where: Where | None) -> Where:
        return {**(where or {}), self._field: self._tenant}

    def _elsewhere(self, where: Where | None) -> bool:
        """Whether somebody else's points are asked for."""
        return bool(where) and where is not None and where.get(self._field, self._tenant) != self._tenant
