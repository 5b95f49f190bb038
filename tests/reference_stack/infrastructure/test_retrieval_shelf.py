"""Promises of a tenant's documents: kept whole, replaced whole, and nobody else's, on the mock and on a real store."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference_stack.schemas.configuration.vector_database import VectorDatabaseSettings
from reference_stack.services.infrastructure.api_gateway.retrieval.shelf import Document, Kept, Shelf, collection_of
from reference_stack.services.integration.vector_database.client import connect
from reference_stack.services.integration.vector_database.port import Collection, Refused, Value, VectorDatabase
from tests.reference_stack.vector_store import VectorStore

MOCK = VectorDatabaseSettings(backend="mock", timeout_s=60)
TENANTS = ("red", "blue", "re", "*")
STORE = "shelf"


@pytest.fixture(params=["mock", "grpc", "rest"])
async def vectors(request: pytest.FixtureRequest) -> AsyncIterator[VectorDatabase]:
    """An empty vector database on each leg."""
    said = MOCK
    if request.param != "mock":
        real: VectorStore = request.getfixturevalue("real_vectors")
        said = real.settings.model_copy(update={"prefer_grpc": request.param == "grpc", "timeout_s": 20})
    store = connect(said)
    await store.drop(collection_of(STORE).name)
    yield store
    await store.close()


async def listed(shelf: Shelf) -> list[Kept]:
    return [kept async for kept in shelf.documents()]


async def test_a_document_is_found_by_its_words(vectors: VectorDatabase) -> None:
    """The passage that answers comes first, with the document's name and attributes."""
    shelf = Shelf(vectors, STORE, "red")
    await shelf.put(Document("a", "a.txt", "Holidays are asked for in March.", {"lang": "en", "year": 2026}))
    await shelf.put(Document("b", "b.txt", "The canteen opens at noon.", {"lang": "en", "open": True}))

    found = await shelf.search("when does the canteen open", 5, {})

    assert [each.document for each in found] == ["b", "a"]
    assert (found[0].name, found[0].text) == ("b.txt", "The canteen opens at noon.")
    assert found[0].attributes == {"lang": "en", "open": True}
    assert found[0].score > found[1].score
    assert [each.document for each in await shelf.search("canteen", 5, {"year": 2026})] == ["a"]
    assert await shelf.search("canteen", 5, {"lang": "de"}) == []
    assert [each.document for each in await shelf.search("canteen", 5, {"lang": "en", "open": True})] == ["b"]
    assert len(await shelf.search("canteen", 1, {})) == 1


async def test_the_same_id_again_is_the_later_document(vectors: VectorDatabase) -> None:
    """Nothing of the one before is left, be it longer or shorter."""
    shelf = Shelf(vectors, STORE, "red")
    long = "\n\n".join(f"paragraph{number} " * 120 for number in range(3))
    assert await shelf.put(Document("a", "a.txt", long)) == 3
    assert await listed(shelf) == [Kept("a", "a.txt", 3, {})]

    assert await shelf.put(Document("a", "again.txt", "short", {"n": 1})) == 1

    assert await listed(shelf) == [Kept("a", "again.txt", 1, {"n": 1})]
    assert [each.text for each in await shelf.search("paragraph2", 9, {})] == ["short"]


async def test_a_removed_document_is_gone(vectors: VectorDatabase) -> None:
    """It is neither listed nor found, and removing it again says so."""
    shelf = Shelf(vectors, STORE, "red")
    assert not await shelf.remove("a")
    await shelf.put(Document("a", "a.txt", "one"))
    await shelf.put(Document("b", "b.txt", "two"))

    assert await shelf.remove("a")

    assert not await shelf.remove("a")
    assert [kept.id for kept in await listed(shelf)] == ["b"]
    assert [each.document for each in await shelf.search("one", 9, {})] == ["b"]


async def test_an_empty_store_answers(vectors: VectorDatabase) -> None:
    """A store into which nobody put anything is searched and listed without an error, and nothing is made."""
    shelf = Shelf(vectors, STORE, "red")

    assert (await shelf.search("anything", 5, {}), await listed(shelf)) == ([], [])
    assert collection_of(STORE).name not in await vectors.collections()


async def test_a_collection_of_somebody_elses_is_refused(vectors: VectorDatabase) -> None:
    """One that has the store's name and is something else is an error, and no empty answer."""
    await vectors.ensure(Collection(collection_of(STORE).name, 3))
    shelf = Shelf(vectors, STORE, "red")

    with pytest.raises(Refused):
        await shelf.search("anything", 5, {})
    with pytest.raises(Refused, match="is there and has 3 numbers"):
        await shelf.put(Document("a", "a.txt", "one"))
    await vectors.drop(collection_of(STORE).name)


async def test_more_documents_than_a_page_are_listed_once(vectors: VectorDatabase) -> None:
    """However many there are, each is listed once, and no other tenant's."""
    red, blue = Shelf(vectors, STORE, "red"), Shelf(vectors, STORE, "blue")
    for number in range(5):
        await red.put(Document(f"d{number}", "d.txt", "word"))

    assert sorted([kept.id async for kept in red.documents(page=2)]) == [f"d{number}" for number in range(5)]
    assert await listed(blue) == []


ATTRIBUTES = st.dictionaries(st.sampled_from(("tenant", "document", "lang")), st.sampled_from((*TENANTS, 1, True)))
PUTS = st.lists(st.tuples(st.sampled_from(TENANTS), st.sampled_from("abc"), ATTRIBUTES), max_size=8)


@settings(max_examples=40, deadline=None)
@given(puts=PUTS, removed=st.sampled_from("abc"), asker=st.sampled_from(TENANTS), where=ATTRIBUTES)
async def test_no_tenant_meets_anothers_documents(
    puts: list[tuple[str, str, dict[str, Value]]], removed: str, asker: str, where: dict[str, Value]
) -> None:
    """Whatever others put and whatever is asked for, a tenant finds, lists and removes its own alone."""
    vectors = connect(MOCK)
    own: dict[str, dict[str, Value]] = {}
    for tenant, name, attributes in puts:
        await Shelf(vectors, STORE, tenant).put(Document(name, tenant, f"{tenant} says {name}", attributes))
        if tenant == asker:
            own[name] = attributes
    shelf = Shelf(vectors, STORE, asker)

    found = await shelf.search("says a b c red blue", 50, where)
    others = {tenant: await listed(Shelf(vectors, STORE, tenant)) for tenant in TENANTS if tenant != asker}

    assert {each.name for each in found} <= {asker}
    assert {each.document for each in found} == {
        name
        for name, said in own.items()
        if all(key in said and same(said[key], value) for key, value in where.items())
    }
    assert {kept.id for kept in await listed(shelf)} == set(own)
    assert await shelf.remove(removed) == (removed in own)
    assert {tenant: await listed(Shelf(vectors, STORE, tenant)) for tenant in others} == others
    await vectors.close()


def same(one: Value, other: Value) -> bool:
    """Equal as JSON has it, where true is not 1."""
    return type(one) is type(other) and one == other
