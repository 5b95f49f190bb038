"""What the rest of the stack asks of the vector database: collections of points, and the nearest of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol
from uuid import UUID

from reference_stack.errors import StackError

PointId = int | UUID
Distance = Literal["cosine", "dot", "euclid", "manhattan"]
Value = str | int | bool


class Unavailable(StackError):
    """The vector database did not answer in time, or not at all."""

    exit_code = 5


class Refused(StackError):
    """The vector database refuses what it was asked: no such collection, a vector of the wrong size."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Point:
    """A vector with what is known of it; `payload` is what JSON can hold."""

    id: PointId
    vector: Sequence[float]
    payload: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A point found near a vector. `score`: higher is nearer for cosine and dot, lower for the distances."""

    id: PointId
    score: float
    payload: Mapping[str, object]


class VectorDatabase(Protocol):
    """Points in collections. Every call raises Unavailable while the server cannot be asked, and Refused.

    `where` takes points whose payload has all these values.
    """

    async def create(self, collection: str, size: int, distance: Distance = "cosine") -> None:
        """Make a collection of vectors of `size` numbers. Raises Refused when there is one of that name."""
        ...

    async def drop(self, collection: str) -> bool:
        """Remove a collection; False when there is none."""
        ...

    async def collections(self) -> list[str]:
        """Return the names of all collections, sorted."""
        ...

    async def upsert(self, collection: str, points: Sequence[Point]) -> None:
        """Add points, or replace those of the same ids; they are found as soon as this returns."""
        ...

    async def search(
        self, collection: str, vector: Sequence[float], limit: int, where: Mapping[str, Value] | None = None
    ) -> list[Neighbour]:
        """Return at most `limit` points, the nearest first."""
        ...

    async def count(self, collection: str, where: Mapping[str, Value] | None = None) -> int: ...

    async def delete(self, collection: str, ids: Sequence[PointId]) -> None:
        """Remove points; ids that are not there are no error."""
        ...

    async def scroll(
        self, collection: str, limit: int, after: PointId | None = None, where: Mapping[str, Value] | None = None
    ) -> tuple[list[Point], PointId | None]:
        """Return points in the order of their ids from `after` on, and where to go on (None: that was the last)."""
        ...

    async def ping(self) -> str:
        """Return "" when the server answers, else why not."""
        ...

    async def close(self) -> None: ...
