"""What the rest of the stack asks of the vector database: collections of points, and the nearest of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol
from uuid import UUID

from reference_stack.errors import StackError

PointId = int | UUID
Distance = Literal["cosine", "dot", "euclid", "manhattan"]
IndexKind = Literal["keyword", "integer"]
Value = str | int | bool
Where = Mapping[str, Value]
# So many points `upsert` writes in one question, which a server does whole even if who asked is gone.
WRITTEN_AT_ONCE = 256


class Unavailable(StackError):
    """The vector database did not answer in time, or not at all."""

    exit_code = 5


class Refused(StackError):
    """The vector database refuses what it was asked: no such collection, a vector of the wrong size."""

    exit_code = 2


class Unsupported(Refused):
    """What this backend cannot do; another may."""


@dataclass(frozen=True, slots=True)
class Collection:
    """What a collection is declared to be.

    Each point has a vector of `size` numbers; with `words` also weights by word number, for searches by both. The
    payload's fields in `indexed` can be filtered fast. `tenant` is the field that says whose a point is, or "".
    """

    name: str
    size: int
    distance: Distance = "cosine"
    words: bool = False
    indexed: Mapping[str, IndexKind] = field(default_factory=dict)
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class Point:
    """A vector with what is known of it; `payload` is what JSON can hold, `words` the weight of each word number."""

    id: PointId
    vector: Sequence[float]
    payload: Mapping[str, object] = field(default_factory=dict)
    words: Mapping[int, float] = field(default_factory=dict)


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

    async def ensure(self, collection: Collection) -> bool:
        """Make the collection as it is declared; False when it is there. Raises Refused when it is there and other."""
        ...

    async def drop(self, collection: str) -> bool:
        """Remove a collection; False when there is none."""
        ...

    async def collections(self) -> list[str]:
        """Return the names of all collections, sorted."""
        ...

    async def upsert(self, collection: str, points: Sequence[Point]) -> None:
        """Add points, WRITTEN_AT_ONCE in turn, or replace those of the same ids; they are found when this returns."""
        ...

    async def search(
        self, collection: str, vector: Sequence[float], limit: int, where: Where | None = None
    ) -> list[Neighbour]:
        """Return at most `limit` points, the nearest first."""
        ...

    async def search_both(
        self,
        collection: str,
        vector: Sequence[float],
        words: Mapping[int, float],
        limit: int,
        where: Where | None = None,
    ) -> list[Neighbour]:
        """Return at most `limit` points, best first by both: those near `vector` and those with rare words in common.

        The server fuses the two orders by reciprocal rank (Cormack, Clarke, Buettcher 2009, k = 60).
        """
        ...

    async def count(self, collection: str, where: Where | None = None) -> int: ...

    async def delete(self, collection: str, ids: Sequence[PointId], where: Where | None = None) -> None:
        """Remove points, of those only what `where` takes; ids that are not there are no error."""
        ...

    async def scroll(
        self, collection: str, limit: int, after: PointId | None = None, where: Where | None = None
    ) -> tuple[list[Point], PointId | None]:
        """Return points in the order of their ids from `after` on, and where to go on (None: that was the last)."""
        ...

    async def snapshot(self, collection: str) -> str:
        """Make a snapshot on the server and return its name. Raises Unsupported where the backend has none."""
        ...

    async def ping(self) -> str:
        """Return "" when the server answers, else why not."""
        ...

    async def close(self) -> None: ...
