"""The harness's mocks and the real servers, asked the same: Qdrant's engine or an external Qdrant, and Prometheus.

The mock of a model's API is held against recorded answers of real vLLM: tests/hxp_harness/mocks/test_model_api.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import respx
from qdrant_client import QdrantClient

from hxp_harness.mocks import prometheus as prometheus_mock
from hxp_harness.mocks import qdrant as qdrant_mock
from reference_stack.schemas.configuration.metrics import MetricsSettings
from tests.hxp_harness.mocks.qdrant_questions import NO_SENSE, QUESTIONS, Question, filled
from tests.reference_stack.vector_store import VectorStore

EXTERNAL = "HXP_TEST_QDRANT_URL"
WORD = {"vector": "x"}
MOCKED = "http://mocked.test:6333"


def renamed(body: Mapping[str, object]) -> dict[str, object]:
    """The older search's body as /points/query has it; the engine behind our API has that route alone."""
    return {"query" if key == "vector" else key: value for key, value in body.items()}


@pytest.fixture(params=["engine", "external"])
def real(request: pytest.FixtureRequest) -> str:
    """Where a real server speaks Qdrant's REST API."""
    if request.param == "engine":
        store: VectorStore = request.getfixturevalue("real_vectors")
        return store.settings.url
    if EXTERNAL not in os.environ:
        pytest.skip(f"no external Qdrant: {EXTERNAL} is not set")
    return os.environ[EXTERNAL]


def fresh(url: str) -> QdrantClient:
    """A client of a server without the collection that the questions make."""
    client = QdrantClient(url=url, port=urlsplit(url).port, check_compatibility=False, trust_env=False, timeout=20)
    client.delete_collection("docs")
    return client


@pytest.fixture
def mocked() -> Iterator[str]:
    with respx.mock(assert_all_called=False, assert_all_mocked=False) as router:
        router.route(host="127.0.0.1").pass_through()
        qdrant_mock.install(router, MOCKED)
        yield MOCKED


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_qdrant_is_answered_as_the_real_one_does(mocked: str, real: str, question: Question) -> None:
    """The same calls of the official client give the same answers on the mock and on the server."""
    clients = [fresh(url) for url in (mocked, real)]

    told, known = (question(filled(client)) for client in clients)

    assert told == known
    assert told
    for client in clients:
        client.close()


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        # As a query a word is the id of a point, about which the engine is not asked.
        *(("POST", path.replace("/search", "/query"), renamed(body)) for path, body in NO_SENSE if body != WORD),
        ("POST", "/collections/none/points/count", {}),
        ("PUT", "/collections/docs/points", {"points": [{"id": 9, "vector": [1.0]}]}),
        ("POST", "/collections/docs/points/query", {"query": [1.0]}),
        ("PUT", "/collections/docs", {"vectors": {"size": 2, "distance": "Cosine"}}),
        ("GET", "/nowhere", None),
    ],
    ids=str,
)
def test_qdrant_refuses_as_the_real_one_does(mocked: str, real: str, method: str, path: str, body: object) -> None:
    """What is wrong is refused by the same class of status, and an error stands where Qdrant puts it."""
    answers = []
    for url in (mocked, real):
        client = fresh(url)
        filled(client)
        client.close()
        answers.append(httpx.request(method, url + path, json=body, timeout=20, trust_env=False))

    told, known = answers
    assert told.status_code == known.status_code, known.text
    if path != "/nowhere":
        assert [isinstance(each.json()["status"]["error"], str) for each in answers] == [True, True]


ASKED: list[tuple[str, Mapping[str, str]]] = [
    ("/api/v1/query", {"query": "vector(2.5)", "time": "100.5"}),
    ("/api/v1/query", {"query": "nothing_has_this_name", "time": "100.5"}),
    ("/api/v1/query", {}),
    ("/api/v1/query_range", {"query": "vector(2)", "start": "0", "end": "30", "step": "15"}),
    ("/api/v1/query_range", {"query": "vector(2)", "start": "0", "end": "29", "step": "15"}),
    ("/api/v1/query_range", {"query": "nothing_has_this_name", "start": "0", "end": "1", "step": "1"}),
    ("/api/v1/query_range", {"query": "x"}),
    ("/api/v1/query_range", {"query": "x", "start": "a", "end": "1", "step": "1"}),
    ("/api/v1/query_range", {"query": "x", "start": "0", "end": "1", "step": "0"}),
    ("/api/v1/query_range", {"query": "x", "start": "2", "end": "1", "step": "1"}),
    ("/api/v1/targets", {}),
    ("/-/ready", {}),
    ("/-/healthy", {}),
    ("/nowhere", {}),
]


@pytest.mark.parametrize(("path", "asked"), ASKED, ids=str)
def test_prometheus_answers_as_the_real_one_does(
    prometheus: MetricsSettings, path: str, asked: Mapping[str, str]
) -> None:
    """The same requests have the same status and the same body; of an error all but its words."""
    with respx.mock(assert_all_called=False, assert_all_mocked=False) as router:
        router.route(host="127.0.0.1").pass_through()
        mock = prometheus_mock.install(router, MOCKED)
        mock.results |= {f"vector({value:g})": [prometheus_mock.Series({}, value)] for value in (2, 2.5)}
        router.route(host="mocked.test").respond(404)
        told, known = (
            httpx.get(url + path, params=asked, timeout=20, trust_env=False)
            for url in (MOCKED, prometheus.prometheus_url)
        )

    assert told.status_code == known.status_code, known.text
    if told.status_code == 404:
        return
    if path.startswith("/-/"):
        assert told.text == known.text
    else:
        assert without_words(told.json()) == without_words(known.json())


def without_words(said: Mapping[str, Any]) -> Mapping[str, Any]:
    """The answer without an error's words, and without what older releases of Prometheus do not say."""
    found = {key: value for key, value in said.items() if key != "error"}
    if "activeTargets" in found.get("data", {}):
        found["data"] = {key: value for key, value in found["data"].items() if key != "droppedTargetCounts"}
    return found
