"""The mocked Qdrant answers the official client as that client's own local engine does."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
import respx
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from hxp_harness.mocks.qdrant import Qdrant, install
from tests.hxp_harness.mocks.qdrant_questions import NO_SENSE, QUESTIONS, Question, filled

WEB = httpx.Client(verify=False)  # one for all: loading certificates takes longer than a test
URL = "http://qdrant.test:6333"


@pytest.fixture
def qdrant() -> Iterator[Qdrant]:
    with respx.mock(assert_all_called=False) as router:
        yield install(router, URL)


@pytest.fixture
def mocked(qdrant: Qdrant) -> Iterator[QdrantClient]:
    assert qdrant.collections == {}
    client = QdrantClient(url=URL, check_compatibility=False)
    yield client
    client.close()


@pytest.fixture
def local() -> Iterator[QdrantClient]:
    client = QdrantClient(":memory:")
    yield client
    client.close()


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_answers_as_the_local_engine(mocked: QdrantClient, local: QdrantClient, question: Question) -> None:
    """The same calls of the official client give the same answers."""
    told = question(filled(mocked))
    assert told == question(filled(local))
    assert told


@pytest.mark.parametrize("distance", [models.Distance.DOT, models.Distance.EUCLID])
def test_distances(mocked: QdrantClient, local: QdrantClient, distance: models.Distance) -> None:
    """Scores and their order are those of the local engine for every distance."""
    told, known = (QUESTIONS["query"](filled(client, distance)) for client in (mocked, local))
    assert told == known


def test_refusals(mocked: QdrantClient) -> None:
    """A collection that is not there is a 404, a wrong dimension a 400, a second creation a 409."""
    with pytest.raises(UnexpectedResponse, match="404"):
        mocked.count("none")
    filled(mocked)
    with pytest.raises(UnexpectedResponse, match="dimension"):
        mocked.upsert("docs", [models.PointStruct(id=9, vector=[1.0])])
    with pytest.raises(UnexpectedResponse, match="dimension"):
        mocked.query_points("docs", [1.0])
    with pytest.raises(UnexpectedResponse, match=r"409[\s\S]*already exists"):
        filled(mocked)


@pytest.mark.parametrize(("path", "body"), NO_SENSE)
def test_bodies_that_make_no_sense(mocked: QdrantClient, path: str, body: dict[str, object]) -> None:
    """What cannot be read is a 400 in Qdrant's shape."""
    filled(mocked)
    answer = WEB.post(URL + path, json=body)
    assert answer.status_code == 400
    assert answer.json()["status"]["error"].startswith("Wrong input")


def test_health_search_and_unknown_routes(qdrant: Qdrant, mocked: QdrantClient) -> None:
    """Health, version and the older search route answer; anything else is a 404."""
    filled(mocked)
    assert WEB.get(f"{URL}/healthz").text == "healthz check passed"
    assert WEB.get(f"{URL}/").json()["version"].startswith("1.20")
    found = WEB.post(f"{URL}/collections/docs/points/search", json={"vector": [0, 1], "limit": 1}).json()
    assert [row["id"] for row in found["result"]] == [3]
    assert WEB.get(f"{URL}/nowhere").status_code == 404
    assert qdrant.requests[-1] == ("GET", "/nowhere")
