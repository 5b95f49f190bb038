"""Who brings a document in may be killed at any moment: it is the one before or the new one, or said to be neither."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Sequence

import pytest
from qdrant_client import AsyncQdrantClient, models

from reference_stack.schemas.configuration.vector_database import VectorDatabaseSettings
from reference_stack.services.infrastructure.api_gateway.retrieval.passages import MOST_WORDS
from reference_stack.services.infrastructure.api_gateway.retrieval.shelf import Document, Shelf, collection_of
from reference_stack.services.integration.vector_database.client import QdrantVectors, connect
from reference_stack.services.integration.vector_database.port import (
    WRITTEN_AT_ONCE,
    PointId,
    VectorDatabase,
    Where,
)
from reference_stack.services.integration.vector_database.ways import Ways
from tests.reference_stack.vector_store import VectorStore

STORE = "cut"
FOREVER = """
import asyncio, itertools, sys
from reference_stack.schemas.configuration.vector_database import VectorDatabaseSettings
from tests.reference_stack.infrastructure import test_retrieval_cut as cut
asyncio.run(cut.put_forever(VectorDatabaseSettings.model_validate_json(sys.argv[1])))
"""


class KilledError(Exception):
    """Whoever asks is gone."""


class Mortal(QdrantVectors):
    """A store in memory whose caller is killed before one of its writes."""

    def __init__(self) -> None:
        super().__init__(Ways([AsyncQdrantClient(":memory:")], 60), indexes=False)
        self.writes_left = 1 << 30

    def _live(self) -> None:
        self.writes_left -= 1
        if self.writes_left < 0:
            raise KilledError

    async def _upsert(self, collection: str, rows: list[models.PointStruct]) -> None:
        self._live()
        await super()._upsert(collection, rows)

    async def delete(self, collection: str, ids: Sequence[PointId], where: Where | None = None) -> None:
        self._live()
        await super().delete(collection, ids, where)


def text_of(word: str, passages: int) -> str:
    return "\n\n".join(" ".join([word] * MOST_WORDS) for _ in range(passages))


async def words_in(shelf: Shelf) -> list[str]:
    """The first word of each passage that a search finds."""
    return sorted(found.text.split()[0] for found in await shelf.search("old new", 1000, {}))


@pytest.mark.parametrize(("had", "has"), [(3, 1), (1, 3), (2, 2), (0, 2)])
async def test_a_killed_caller_leaves_the_old_document_or_the_new(had: int, has: int) -> None:
    """Before whichever write it is killed, searches find the passages of one of the two and no other."""
    outcomes = []
    for writes in range(3):
        vectors = Mortal()
        shelf = Shelf(vectors, STORE, "red")
        await vectors.ensure(collection_of(STORE))
        if had:
            await shelf.put(Document("a", "a", text_of("old", had)))
        vectors.writes_left = writes
        try:
            await shelf.put(Document("a", "a", text_of("new", has)))
        except KilledError:
            outcomes.append(await words_in(shelf))
        vectors.writes_left = 1 << 30
        await shelf.put(Document("a", "a", text_of("new", has)))
        assert await words_in(shelf) == ["new"] * has
        assert [kept.whole for kept in [each async for each in shelf.documents()]] == [True]
        await vectors.close()
    assert outcomes == [["old"] * had, ["new"] * has]


async def test_a_long_document_that_was_cut_off_is_told_and_completed() -> None:
    """One of several writes may be left mixed; it is listed as not whole until it is put again."""
    many = WRITTEN_AT_ONCE + 1
    vectors = Mortal()
    shelf = Shelf(vectors, STORE, "red")
    await shelf.put(Document("a", "a", text_of("old", many)))
    vectors.writes_left = 1
    with pytest.raises(KilledError):
        await shelf.put(Document("a", "a", text_of("new", many)))
    assert set(await words_in(shelf)) == {"old", "new"}
    assert [kept.whole async for kept in shelf.documents()] == [False]

    vectors.writes_left = 1 << 30
    await shelf.put(Document("a", "a", text_of("new", many)))

    assert await words_in(shelf) == ["new"] * many
    assert [kept.whole async for kept in shelf.documents()] == [True]
    await vectors.close()


async def put_forever(settings: VectorDatabaseSettings) -> None:
    """Replace a document by a shorter and a longer one in turn, until killed."""
    shelf = Shelf(connect(settings), STORE, "red")
    while True:
        await shelf.put(Document("a", "a", text_of("old", 4)))
        print("put", flush=True)
        await shelf.put(Document("a", "a", text_of("new", 2)))


def _kill_some_way_on(settings: str, puts: int) -> None:
    with subprocess.Popen([sys.executable, "-c", FOREVER, settings], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        for _ in range(puts):
            assert child.stdout.readline() == b"put\n"
        child.kill()


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_real_kill_leaves_one_of_the_two(real_vectors: VectorStore, seed: int) -> None:
    """After SIGKILL at a drawn moment a real store has all passages of one document, and none of the other."""
    _kill_some_way_on(real_vectors.settings.model_dump_json(), random.Random(seed).randrange(1, 20))
    vectors: VectorDatabase = connect(real_vectors.settings)
    try:
        assert await words_in(Shelf(vectors, STORE, "red")) in (["old"] * 4, ["new"] * 2)
    finally:
        await vectors.drop(collection_of(STORE).name)
        await vectors.close()
