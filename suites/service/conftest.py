"""One service at a time, with the server behind it that the stack ships."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest

from hxp_harness.stack import RunningStack
from suites.retrieval import searched


@pytest.fixture(scope="session", autouse=True)
def _searched() -> Iterator[None]:
    """Gateways that are started here search documents."""
    with searched():
        yield


@pytest.fixture(scope="session")
def alone(start_stack: Callable[..., RunningStack]) -> Callable[[str], RunningStack]:
    """Start one service with what it needs, once a session."""
    started: dict[str, RunningStack] = {}

    def start(name: str) -> RunningStack:
        if name not in started:
            started[name] = start_stack(name)
        return started[name]

    return start


@pytest.fixture
def face(alone: Callable[[str], RunningStack]) -> Iterator[Callable[[str], httpx.Client]]:
    """A client of a service's HTTP face, as in `face("cache").get("/health")`."""
    clients: list[httpx.Client] = []

    def open_client(name: str) -> httpx.Client:
        root = str(alone(name).services[name]["health_url"]).removesuffix("/health")
        clients.append(httpx.Client(base_url=root, timeout=20, trust_env=False))
        return clients[-1]

    yield open_client
    for client in clients:
        client.close()
