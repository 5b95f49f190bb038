"""The mocked Prometheus answers queries as the real one does."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
import respx

from hxp_harness.mocks.prometheus import Prometheus, Series, install

WEB = httpx.Client(verify=False)  # one for all: loading certificates takes longer than a test
URL = "http://prometheus.test:9090"


@pytest.fixture
def prometheus() -> Iterator[Prometheus]:
    with respx.mock(assert_all_called=False) as router:
        yield install(router, f"{URL}/")


def test_instant_query(prometheus: Prometheus) -> None:
    """An expression that is known has its series, by GET and by POST; values are text."""
    prometheus.results["up"] = [Series({"__name__": "up", "job": "mixtral"}, 1), Series({"job": "phi3"}, 0.5)]
    by_get = WEB.get(f"{URL}/api/v1/query", params={"query": "up", "time": "100.5"}).json()
    by_post = WEB.post(f"{URL}/api/v1/query", data={"query": "up", "time": "100.5"}).json()

    assert by_get == by_post
    assert by_get == {
        "status": "success",
        "data": {
            "resultType": "vector",
            "result": [
                {"metric": {"__name__": "up", "job": "mixtral"}, "value": [100.5, "1"]},
                {"metric": {"job": "phi3"}, "value": [100.5, "0.5"]},
            ],
        },
    }
    assert prometheus.queries == ["up", "up"]


def test_unknown_expression_has_no_data(prometheus: Prometheus) -> None:
    """No data is a success with an empty result, not an error."""
    answer = WEB.get(f"{URL}/api/v1/query", params={"query": "nothing"})
    assert answer.status_code == 200
    assert answer.json()["data"]["result"] == []
    assert prometheus.queries == ["nothing"]


def test_range_query(prometheus: Prometheus) -> None:
    """A range has one value a step, both ends included."""
    prometheus.results["x"] = [Series({}, 2)]
    asked = {"query": "x", "start": "0", "end": "30", "step": "15"}
    answer = WEB.get(f"{URL}/api/v1/query_range", params=asked).json()

    assert answer["data"]["resultType"] == "matrix"
    assert answer["data"]["result"][0]["values"] == [[0.0, "2"], [15.0, "2"], [30.0, "2"]]


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("query", {}),
        ("query_range", {"query": "x"}),
        ("query_range", {"query": "x", "start": "a", "end": "1", "step": "1"}),
        ("query_range", {"query": "x", "start": "0", "end": "1", "step": "0"}),
        ("query_range", {"query": "x", "start": "2", "end": "1", "step": "1"}),
    ],
)
def test_bad_queries(prometheus: Prometheus, path: str, asked: dict[str, str]) -> None:
    """A wrong query is a 400 of type bad_data."""
    answer = WEB.get(f"{URL}/api/v1/{path}", params=asked)
    assert answer.status_code == 400
    assert (answer.json()["status"], answer.json()["errorType"]) == ("error", "bad_data")
    assert prometheus.queries == []


def test_targets_and_readiness(prometheus: Prometheus) -> None:
    """Targets have their health; a server that starts up is not ready but healthy."""
    prometheus.targets.append({"job": "mixtral", "scrapeUrl": "http://127.0.0.1:1/metrics", "health": "down"})
    told = WEB.get(f"{URL}/api/v1/targets").json()["data"]["activeTargets"]
    assert [(each["labels"]["job"], each["health"]) for each in told] == [("mixtral", "down")]

    assert WEB.get(f"{URL}/-/ready").status_code == 200
    prometheus.ready = False
    assert WEB.get(f"{URL}/-/ready").status_code == 503
    assert WEB.get(f"{URL}/-/healthy").status_code == 200
