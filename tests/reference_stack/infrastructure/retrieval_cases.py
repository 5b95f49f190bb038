"""A gateway that searches a real store, through proxies that can be poisoned."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from hxp_harness.faults.proxy import Proxy
from reference_stack.schemas.api.retrieval import SearchPage
from reference_stack.services.infrastructure.api_gateway.retrieval.shelf import Document, Shelf
from reference_stack.services.integration.vector_database.client import connect
from tests.reference_stack.infrastructure.conftest import Backend, Gateway, eventually, gateways, key_row
from tests.reference_stack.vector_store import VectorStore

STORE, EMPTY = "library", "empty"
SEARCH = "/v1/vector_stores/{store}/search"
KEYS = (
    key_row("alice", "key-of-alice", tenant="red"),
    key_row("bob", "key-of-bob", tenant="blue"),
    key_row("nobody", "key-of-nobody"),
    key_row("narrow", "key-of-narrow", tenant="red", models=["mixtral"]),
    key_row("reader", "key-of-reader", tenant="red", models=[STORE]),
    key_row("slow", "key-of-slow", tenant="red", requests_per_minute=2),
)
TIMEOUT_S, OPEN_S = 0.6, 0.3


@dataclass
class Library:
    """A gateway that searches a real store; `ways` are the proxies on the two ways there."""

    gateway: Gateway
    store: VectorStore
    ways: tuple[Proxy, Proxy]

    def search(self, body: object, *, key: str = "key-of-alice", store: str = STORE) -> httpx.Response:
        return self.gateway.post(body, SEARCH.format(store=store), authorization=f"Bearer {key}")

    def well(self) -> bool:
        return self.search({"query": "x"}).status_code == 200

    @contextmanager
    def toxic(self, kind: str, **attributes: float) -> Iterator[None]:
        """Poison both ways, until the gateway searches again."""
        with ExitStack() as stack:
            for way in self.ways:
                stack.enter_context(way.toxic(kind, stream="downstream", **attributes))
            yield
        eventually(self.well)


@contextmanager
def library_over(store: VectorStore, folder: Path) -> Iterator[Library]:
    """Run a gateway that searches `store`, in which two tenants have two documents each."""
    with ExitStack() as stack:
        asyncio.run(fill(store))
        said = store.settings
        ways = (
            stack.enter_context(Proxy((said.host, said.port))),
            stack.enter_context(Proxy((said.host, said.grpc_port))),
        )
        retrieval = {
            "stores": [STORE, EMPTY],
            "port": ways[0].port,
            "grpc_port": ways[1].port,
            "timeout_s": TIMEOUT_S,
            "open_s": OPEN_S,
            "failures": 2,
            "in_flight": 4,
        }
        make = stack.enter_context(gateways(stack.enter_context(Backend()), folder))
        gateway = make(key_rows=KEYS, retrieval=retrieval, open_docs=True)
        found = Library(gateway, store, ways)
        eventually(found.well)
        yield found


async def fill(store: VectorStore) -> None:
    vectors = connect(store.settings.model_copy(update={"timeout_s": 20}))
    for tenant, word in (("red", "rouge"), ("blue", "bleu")):
        shelf = Shelf(vectors, STORE, tenant)
        await shelf.put(Document("holidays", "holidays.md", f"Holidays are asked for in March. {word}", {"lang": "en"}))
        await shelf.put(Document("canteen", "canteen.md", f"The canteen opens at noon. {word}", {"lang": "en", "n": 1}))
    await vectors.close()


def files(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [row.file_id for row in SearchPage.model_validate_json(answer.content).data]


def error(answer: httpx.Response) -> tuple[int, str, str | None]:
    said = answer.json()["error"]
    assert said["request_id"] == answer.headers["x-request-id"]
    return answer.status_code, said["code"], said["param"]
