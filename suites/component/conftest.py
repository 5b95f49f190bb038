"""Each service alone: a process of its own with its neighbours mocked, started once and asked often."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from hxp_harness.stack import RunningStack, Want, running
from reference_stack.catalogue import ServiceSpec, load_catalogue

ROWS = [
    pytest.param(spec, id=spec.name, marks=pytest.mark.xdist_group(spec.name)) for spec in load_catalogue().values()
]


@pytest.fixture(scope="session", params=ROWS)
def spec(request: pytest.FixtureRequest) -> ServiceSpec:
    """One row of the catalogue."""
    row: ServiceSpec = request.param
    return row


@pytest.fixture(scope="session")
def mocked(spec: ServiceSpec, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """The service of `spec` alone, everything that it needs mocked."""
    folder = tmp_path_factory.mktemp(spec.name)
    with running(Want(folder=str(folder), services=(spec.name,), mock=True)) as stack:
        yield stack


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., RunningStack]]:
    """Start a mocked service of the test's own."""
    with ExitStack() as started:

        def begin(name: str, **settings: str) -> RunningStack:
            want = Want(folder=str(tmp_path), services=(name,), mock=True, options=settings)
            return started.enter_context(running(want))

        yield begin


@pytest.fixture
def face(spec: ServiceSpec, mocked: RunningStack) -> Iterator[httpx.Client]:
    """A client of the service's HTTP face."""
    root = str(mocked.services[spec.name]["health_url"]).removesuffix("/health")
    with httpx.Client(base_url=root, timeout=10, trust_env=False) as client:
        yield client
