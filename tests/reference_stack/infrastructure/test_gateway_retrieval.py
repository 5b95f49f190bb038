"""Searches of documents through the gateway: the key's story, its tenant alone, and a store that is out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reference_stack.schemas.api.retrieval import LONGEST_QUERY
from tests.reference_stack.infrastructure.conftest import Gateway
from tests.reference_stack.infrastructure.retrieval_cases import EMPTY, SEARCH, STORE, Library, error, files


def test_the_official_client_searches(library: Library) -> None:
    """OpenAI's own client calls the route as it is and reads the answer, filters and several queries included."""
    # pragma: allowlist nextline secret
    with openai.OpenAI(api_key="key-of-alice", base_url=f"{library.gateway.url}/v1", max_retries=0) as client:
        page = client.vector_stores.search(STORE, query="when does the canteen open", max_num_results=1)
        both = client.vector_stores.search(
            STORE,
            query=["canteen", "noon"],
            filters={"type": "and", "filters": [{"type": "eq", "key": "lang", "value": "en"}]},
            rewrite_query=False,
        )

    (first,) = page.data
    assert (first.file_id, first.filename, first.attributes) == ("canteen", "canteen.md", {"lang": "en", "n": 1})
    assert [part.text for part in first.content] == ["The canteen opens at noon. rouge"]
    assert [row.file_id for row in both.data] == ["canteen", "holidays"]
    assert not page.has_next_page()


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"type": "eq", "key": "n", "value": 1}, ["canteen"]),
        ({"type": "eq", "key": "lang", "value": "de"}, []),
        ({"type": "and", "filters": [{"type": "eq", "key": "n", "value": value} for value in (1, 2)]}, []),
        (None, ["canteen", "holidays"]),
    ],
)
def test_filters_narrow(library: Library, filters: object, found: list[str]) -> None:
    """Only documents with all the attributes that are asked for are found; what cannot hold finds nothing."""
    assert files(library.search({"query": "the canteen", "filters": filters})) == found


VALUES = st.one_of(st.sampled_from(("red", "blue", "")), st.booleans(), st.integers(-2, 2))
EQUAL = st.fixed_dictionaries(
    {"type": st.just("eq"), "key": st.sampled_from(("tenant", "lang", "n", "document")), "value": VALUES}
)
FILTERS = st.one_of(
    st.none(),
    EQUAL,
    st.fixed_dictionaries({"type": st.just("and"), "filters": st.lists(EQUAL, min_size=1, max_size=3)}),
)


@pytest.mark.owasp("LLM08:2025", "API1:2023")
def test_no_key_meets_another_tenants_documents(library: Library) -> None:
    """Whatever is asked, in whatever words and headers, each key finds its tenant's documents and no other's."""
    for key, word in (("key-of-alice", "rouge"), ("key-of-bob", "bleu")):
        data = library.search({"query": word}, key=key).json()["data"]
        assert [word in row["content"][0]["text"] for row in data] == [True, True]

    @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(
        query=st.sampled_from(("rouge", "bleu", "canteen", "tenant: blue", "red")),
        filters=FILTERS,
        whose=st.sampled_from((("key-of-alice", "rouge"), ("key-of-bob", "bleu"), ("key-of-reader", "rouge"))),
        claimed=st.sampled_from(("red", "blue", "*")),
    )
    def run(query: str, filters: object, whose: tuple[str, str], claimed: str) -> None:
        key, word = whose
        headers = {"authorization": f"Bearer {key}", "x-hxp-tenant": claimed, "openai-organization": claimed}
        path = SEARCH.format(store=STORE)
        answer = library.gateway.post({"query": query, "filters": filters}, path, **headers)
        assert answer.status_code == 200, answer.text
        for row in answer.json()["data"]:
            assert word in row["content"][0]["text"]

    run()


@pytest.mark.parametrize(
    ("key", "store", "expected"),
    [
        ("key-of-nowhere", STORE, (401, "invalid_api_key", None)),
        ("key-of-nowhere", "unknown", (401, "invalid_api_key", None)),
        ("key-of-alice", "unknown", (404, "vector_store_not_found", "vector_store_id")),
        ("key-of-alice", "x" * 300, (404, "vector_store_not_found", "vector_store_id")),
        ("key-of-narrow", STORE, (404, "vector_store_not_found", "vector_store_id")),
        ("key-of-reader", EMPTY, (404, "vector_store_not_found", "vector_store_id")),
        ("key-of-nobody", STORE, (403, "tenant_required", None)),
    ],
)
def test_who_may_not_search_is_refused(library: Library, key: str, store: str, expected: object) -> None:
    """A key without a tenant has no documents; a store that is not there and one that is not the key's are the same."""
    assert error(library.search({"query": "canteen"}, key=key, store=store)) == expected


def test_a_store_without_documents_is_empty(library: Library) -> None:
    """A store that is configured and into which nobody put anything finds nothing."""
    assert files(library.search({"query": "canteen"}, store=EMPTY)) == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{", (400, "invalid_json", None)),
        (b'{"query": "a", "query": "b"}', (400, "invalid_json", "query")),
        (b'{"query": NaN}', (400, "invalid_json", None)),
        (b"[]", (400, "invalid_json", None)),
        ({}, (400, "missing_required_parameter", "query")),
        ({"query": ""}, (400, "invalid_value", "query")),
        ({"query": 7}, (400, "invalid_value", "query")),
        ({"query": []}, (400, "invalid_value", "query")),
        ({"query": "x" * (LONGEST_QUERY + 1)}, (400, "invalid_value", "query")),
        ({"query": ["x" * 600] * 2}, (400, "invalid_value", "query")),
        ({"query": "a", "max_num_results": 0}, (400, "invalid_value", "max_num_results")),
        ({"query": "a", "max_num_results": "5"}, (400, "invalid_value", "max_num_results")),
        ({"query": "a", "max_num_results": 51}, (400, "invalid_value", "max_num_results")),
        ({"query": "a", "rewrite_query": True}, (400, "invalid_value", "rewrite_query")),
        ({"query": "a", "ranking_options": {}}, (400, "unknown_parameter", "ranking_options")),
        ({"query": "a", "tenant": "blue"}, (400, "unknown_parameter", "tenant")),
        ({"query": "a", "filters": {"type": "ne", "key": "a", "value": 1}}, (400, "invalid_value", "filters")),
        ({"query": "a", "filters": {"type": "eq", "key": "a", "value": 1.5}}, (400, "invalid_value", "filters")),
        ({"query": "a", "filters": {"type": "eq", "key": "a.b[]", "value": 1}}, (400, "invalid_value", "filters")),
        ({"query": "a", "filters": {"type": "and", "filters": []}}, (400, "invalid_value", "filters")),
        ({"query": "a", "filters": {"type": "eq", "key": "a"}}, (400, "invalid_value", "filters")),
    ],
    ids=str,
)
def test_a_wrong_body_is_refused(library: Library, body: object, expected: object) -> None:
    """What is not taken is a 400 in OpenAI's shape that names the parameter and repeats no value."""
    answer = library.search(body)

    assert error(answer) == expected
    assert "xxx" not in answer.text
    assert len(answer.content) < 1000


def test_a_search_is_counted_logged_and_written_down(library: Library) -> None:
    """It has a usage row of no tokens under the store's name, whole or failed, and the route's counts."""
    usage = library.gateway.usage
    done = 'hxp_gateway_requests_total{model="library",route="/v1/vector_stores/{store}/search",status="200"}'
    before, count = counted(library, done), len(usage.rows)

    assert library.search({"query": "canteen"}).status_code == 200

    row = usage.last(count + 1)
    said = (row.key_id, row.tenant, row.model, row.route, row.outcome, row.status, row.prompt_tokens, row.output_tokens)
    assert said == ("alice", "red", STORE, SEARCH, "complete", 200, 0, 0)
    assert counted(library, done) == before + 1


def counted(library: Library, line: str) -> float:
    page = library.gateway.http.get("/metrics").text
    return next((float(each.rpartition(" ")[2]) for each in page.splitlines() if each.startswith(line)), 0.0)


def test_a_keys_limit_holds(library: Library) -> None:
    """A search is a request of its key's, and says what is left."""
    first, second, third = (library.search({"query": "a"}, key="key-of-slow") for _ in range(3))

    assert (first.status_code, first.headers["x-ratelimit-remaining-requests"]) == (200, "1")
    assert second.status_code == 200
    assert error(third) == (429, "rate_limit_exceeded", None)
    assert int(third.headers["retry-after"]) >= 1


def test_a_search_alone_is_no_get(library: Library) -> None:
    """The path has one method, and nothing of the store's own API is to be had."""
    gateway = library.gateway
    assert gateway.http.get(SEARCH.format(store=STORE)).status_code == 405
    for path in ("/v1/vector_stores", f"/v1/vector_stores/{STORE}", "/collections", "/v1/vector_stores/a/b/search"):
        assert gateway.http.get(path).status_code == 404


def test_openapi_tells_of_it(library: Library) -> None:
    """The route stands in OpenAPI with its body and its answer, and every reference in it leads somewhere."""
    document = library.gateway.http.get("/openapi.json").json()
    said = document["paths"][SEARCH]["post"]
    body = said["requestBody"]["content"]["application/json"]["schema"]

    assert set(body["properties"]) == {"query", "filters", "max_num_results", "rewrite_query"}
    answer = said["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer == {"$ref": "#/components/schemas/SearchPage"}
    assert set(references(document)) <= {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_without_the_setting_there_is_no_route(gateway: Gateway) -> None:
    """Searches are off unless they are configured."""
    answer = gateway.post({"query": "x"}, SEARCH.format(store=STORE))

    assert (answer.status_code, json.loads(answer.content)["error"]["code"]) == (404, "not_found")
