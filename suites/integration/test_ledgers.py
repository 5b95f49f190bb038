"""Requests of every kind, and each of them found in every ledger: client, usage log, gateway, model, Prometheus."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncpg
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from hxp_harness.faults.ledger import Billed, ClientRow, Ended, UsageRow, i1
from hxp_harness.stack import RunningStack
from hxp_harness.target import Target
from suites.retrieval import STORE, TENANT, bring_in

MODEL = "hermes"
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
SEARCH = "/v1/vector_stores/{store}/search"
SETTLE_S, COLLECTED_S = 10.0, 45.0
Counts = Mapping[str, float]
Rows = tuple[asyncpg.Record, ...]
Found = TypeVar("Found")
_BILLED = {"complete": Billed.COMPLETE, "cancelled": Billed.CANCELLED, "interrupted": Billed.INTERRUPTED}
_HELLO = [{"role": "user", "content": "hello"}]


@dataclass(frozen=True, slots=True)
class Series:
    """A counter, summed over all that has these labels: on a page, and as Prometheus is asked for it."""

    name: str
    labels: Mapping[str, str]

    @property
    def expression(self) -> str:
        return f"sum({self.name}{{{','.join(f'{key}={json.dumps(value)}' for key, value in self.labels.items())}}})"


def _requests(route: str, model: str, status: int) -> Series:
    return Series("hxp_gateway_requests_total", {"route": route, "model": model, "status": str(status)})


GATEWAY = {
    "chats": _requests(CHAT, MODEL, 200),
    "texts": _requests(COMPLETIONS, MODEL, 200),
    "searches": _requests(SEARCH, STORE, 200),
    "complete": Series("hxp_gateway_outcomes_total", {"model": MODEL, "outcome": "complete"}),
    "cancelled": Series("hxp_gateway_outcomes_total", {"model": MODEL, "outcome": "cancelled"}),
    "billed": Series("hxp_gateway_tokens_total", {"model": MODEL, "kind": "output"}),
}
ENGINE = {
    "served": Series("vllm:request_success_total", {"model_name": MODEL}),
    "generated": Series("vllm:generation_tokens_total", {"model_name": MODEL}),
}
ALL = {**GATEWAY, **ENGINE}


@dataclass(frozen=True, slots=True)
class Books:
    """All ledgers of one round of requests. `store` is the usage log; counters went as far as `moved` says, to where
    they stand on their pages (`counted`) and in Prometheus.
    """

    client: Mapping[str, ClientRow]
    store: Rows
    moved: Counts
    counted: Counts
    prometheus: Counts


class Client:
    """Sends requests under ids of its own, and keeps a record of each."""

    def __init__(self, door: Target) -> None:
        self.rows: dict[str, ClientRow] = {}
        self.prefix = f"ledger-{uuid.uuid4().hex[:8]}"
        root = door.base_url.removesuffix("/v1")
        headers = {"Authorization": f"Bearer {door.api_key}"}
        self.http = httpx.Client(base_url=root, headers=headers, timeout=30, trust_env=False)

    def send(self, name: str, path: str, body: object) -> None:
        """Ask for a whole answer."""
        answer = self.http.post(path, json=body, headers=self._id(name))
        said = answer.json().get("usage") or {}
        ended = Ended.OK if answer.status_code == 200 else Ended.FAILED
        self._note(name, ended, accepted=answer.status_code == 200, tokens=said.get("completion_tokens", 0))

    def stream(self, name: str, *, tokens: int, leave_after: int | None = None) -> None:
        """Ask for a stream, and leave after so many events with text."""
        body = {"model": MODEL, "messages": _HELLO, "stream": True, "stream_options": {"include_usage": True}}
        body |= {"max_tokens": tokens, "ignore_eos": True}
        texts, usage = 0, 0
        with self.http.stream("POST", CHAT, json=body, headers=self._id(name)) as answer:
            for event in _events(answer):
                usage = (event.get("usage") or {}).get("completion_tokens", usage)
                texts += any(choice["delta"].get("content") for choice in event["choices"])
                if texts == leave_after:
                    break
        left = leave_after is not None
        self._note(name, Ended.UNKNOWN if left else Ended.OK, accepted=True, tokens=texts if left else usage)

    def _id(self, name: str) -> dict[str, str]:
        return {"X-Request-Id": f"{self.prefix}-{name}"}

    def _note(self, name: str, ended: Ended, *, accepted: bool, tokens: int) -> None:
        self.rows[name] = ClientRow(f"{self.prefix}-{name}", "", ended, accepted, tokens)


def _events(answer: httpx.Response) -> Iterator[dict[str, Any]]:
    assert answer.status_code == 200
    held = b""
    for part in answer.iter_raw():
        *whole, held = (held + part).split(b"\n\n")
        yield from (json.loads(event[6:]) for event in whole if event != b"data: [DONE]")


@pytest.fixture(scope="module")
def books(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Books:
    """Send one request of each kind and read all ledgers before and after."""
    bring_in(str(stack.services["api_gateway"]["settings_file"]), tmp_path_factory.mktemp("documents"))
    before = counted(stack)
    client = Client(stack.target("api_gateway"))
    chat = {"model": MODEL, "messages": _HELLO, "max_tokens": 5}
    client.send("chat", CHAT, chat)
    client.send("text", COMPLETIONS, {"model": MODEL, "prompt": "hello", "max_tokens": 4})
    client.send("refused", CHAT, {**chat, "max_tokens": -1})
    client.send("search", SEARCH.format(store=STORE), {"query": "canteen"})
    client.stream("stream", tokens=7)
    client.stream("left", tokens=1500, leave_after=2)
    client.http.close()
    accepted = sum(row.accepted for row in client.rows.values())

    rows = until(lambda: usage_rows(stack, client.prefix), lambda found: len(found) >= accepted, SETTLE_S)
    until(lambda: running(stack), lambda found: not found, SETTLE_S)
    after = counted(stack)
    seen = until(lambda: collected(stack), lambda found: found in ({}, after), COLLECTED_S)
    return Books(client.rows, rows, {name: after[name] - before[name] for name in ALL}, after, seen)


def until(read: Callable[[], Found], good: Callable[[Found], bool], within_s: float) -> Found:
    """Return what `read` gives as soon as it is `good`, else at the end of the time: the tests say what is wrong."""
    ends = time.monotonic() + within_s
    while not good(found := read()) and time.monotonic() < ends:
        time.sleep(0.1)  # polls ledgers that are written behind the answers
    return found


def counted(stack: RunningStack) -> Counts:
    """Read the pages of the gateway and of the model."""
    pages = [_samples(stack.target(name).metrics_url) for name in ("api_gateway", MODEL)]
    return {name: sum(_sum(page, series) for page in pages) for name, series in ALL.items()}


def running(stack: RunningStack) -> float:
    return _sum(_samples(stack.target(MODEL).metrics_url), Series("vllm:num_requests_running", {}))


def _samples(url: str) -> list[Sample]:
    text = httpx.get(url, timeout=20, trust_env=False).text
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def _sum(page: list[Sample], series: Series) -> float:
    return sum(row.value for row in page if row.name == series.name and series.labels.items() <= row.labels.items())


def collected(stack: RunningStack) -> Counts:
    """What Prometheus has of each series; nothing where this machine has no Prometheus."""
    root = str(stack.services["metrics"]["health_url"]).removesuffix("/health")
    found = {}
    for name, series in ALL.items():
        answer = httpx.get(f"{root}/v1/query", params={"expression": series.expression}, timeout=20, trust_env=False)
        if answer.status_code == 503 and str(answer.json()["detail"]).startswith("no Prometheus"):
            return {}
        assert answer.status_code == 200, answer.text
        found[name] = float(answer.json()[0]["points"][0][1]) if answer.json() else 0.0
    return found


def usage_rows(stack: RunningStack, prefix: str) -> Rows:
    """The rows of the usage log for the requests whose ids begin so."""

    async def read() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(str(stack.services["database"]["url"]), timeout=10)
        try:
            found: list[asyncpg.Record] = await connection.fetch(
                "SELECT * FROM usage WHERE client_request_id LIKE $1 || '%'", prefix
            )
            return found
        finally:
            await connection.close()

    return tuple(asyncio.run(read()))


def named(books: Books) -> Mapping[str, asyncpg.Record]:
    """The usage rows by the part of their id that says what was sent."""
    return {str(row["client_request_id"]).rpartition("-")[2]: row for row in books.store}


def test_the_clients_record_is_whole(books: Books) -> None:
    """Every request ended as it was meant to, so that the other ledgers have something to agree with."""
    ended = {name: row.ended.value for name, row in books.client.items()}

    whole = dict.fromkeys(("chat", "text", "search", "stream"), "ok")
    assert ended == {**whole, "refused": "failed", "left": "unknown"}
    assert all(books.client[name].received_tokens > 0 for name in ("chat", "text", "stream", "left"))


def test_every_accepted_request_is_once_in_the_usage_log(books: Books) -> None:
    """None is lost, none stands there twice, and what was refused or never asked is not there (I1)."""
    usage = [
        UsageRow(str(row["client_request_id"]), int(row["output_tokens"]), _BILLED[row["outcome"]])
        for row in books.store
    ]

    assert len(usage) == 5
    assert i1(books.client.values(), usage) == []


def test_the_usage_log_says_what_the_client_saw(books: Books) -> None:
    """Model, route, outcome, tenant and tokens of each row are those of the client's record."""
    rows = named(books)
    said = {name: (row["model"], row["route"], row["outcome"], row["stream"]) for name, row in rows.items()}

    assert said == {
        "chat": (MODEL, CHAT, "complete", False),
        "text": (MODEL, COMPLETIONS, "complete", False),
        "search": (STORE, SEARCH, "complete", False),
        "stream": (MODEL, CHAT, "complete", True),
        "left": (MODEL, CHAT, "cancelled", True),
    }
    assert {row["tenant"] for row in rows.values()} == {TENANT}
    for name in ("chat", "text", "stream", "search"):
        assert rows[name]["output_tokens"] == books.client[name].received_tokens, name
    assert rows["left"]["output_tokens"] >= books.client["left"].received_tokens


def test_the_gateway_counted_them(books: Books) -> None:
    """The gateway's own counters went as far as the usage log says, requests and tokens alike."""
    rows = named(books)
    moved = books.moved

    assert (moved["chats"], moved["texts"], moved["searches"]) == (3, 1, 1)
    assert (moved["complete"], moved["cancelled"]) == (3, 1)
    assert moved["billed"] == sum(row["output_tokens"] for row in rows.values())


def test_the_model_counted_them(books: Books) -> None:
    """The engine served what was complete, and generated what was billed; of what was cancelled no less than that."""
    rows = named(books)
    complete = sum(row["output_tokens"] for row in rows.values() if row["outcome"] == "complete")

    assert books.moved["served"] >= 3
    assert books.moved["generated"] - complete >= rows["left"]["output_tokens"]
    assert books.moved["generated"] - complete < 1500  # the engine was told that nobody waits


def test_prometheus_has_all_of_it(books: Books) -> None:
    """With the next collection Prometheus has every counter as its page had it."""
    if not books.prometheus:
        pytest.skip("no Prometheus on this machine")  # hxp-stack tools fetches one; one that died is no reason
    assert books.prometheus == books.counted
