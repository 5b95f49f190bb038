"""Each service alone: a process of its own with its neighbours mocked, started once and asked often."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from hxp_harness.certify.behaviour import ANY_MODEL, Behaviour
from hxp_harness.certify.golden_process import golden
from hxp_harness.stack import RunningStack, Want, running
from reference_stack.catalogue import ServiceSpec, load_catalogue
from suites.retrieval import searched

ROWS = [
    pytest.param(spec, id=spec.name, marks=pytest.mark.xdist_group(spec.name)) for spec in load_catalogue().values()
]


@pytest.fixture(scope="session", autouse=True)
def _searched() -> Iterator[None]:
    """Gateways that are started here search documents."""
    with searched():
        yield


@pytest.fixture(params=ROWS)
def spec(request: pytest.FixtureRequest) -> ServiceSpec:
    """One row of the catalogue."""
    row: ServiceSpec = request.param
    return row


@pytest.fixture(scope="session")
def model_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a server that stands for every model: what the gateway has behind it here."""
    with golden(tmp_path_factory.mktemp("golden"), Behaviour(ttft_s=0.001, itl_s=0.0), model=ANY_MODEL) as server:
        yield server.base_url


@pytest.fixture
def want(spec: ServiceSpec, request: pytest.FixtureRequest) -> Callable[[Path], Want]:
    """How to ask for the service alone, everything that it needs mocked."""
    options = {"upstream": request.getfixturevalue("model_api")} if spec.name == "api_gateway" else {}
    return lambda folder: Want(folder=str(folder), services=(spec.name,), mock=True, options=options)


@pytest.fixture(scope="session")
def kept() -> Iterator[Callable[[Want], RunningStack]]:
    """Start a service once, however the tests are ordered, and keep it until the session ends."""
    found: dict[tuple[str, ...], RunningStack] = {}
    with ExitStack() as started:

        def get(want: Want) -> RunningStack:
            if want.services not in found:
                found[want.services] = started.enter_context(running(want))
            return found[want.services]

        yield get


@pytest.fixture
def mocked(
    spec: ServiceSpec,
    want: Callable[[Path], Want],
    kept: Callable[[Want], RunningStack],
    tmp_path_factory: pytest.TempPathFactory,
) -> RunningStack:
    """The service of `spec`, running alone."""
    return kept(want(tmp_path_factory.mktemp(spec.name)))


@pytest.fixture
def face(spec: ServiceSpec, mocked: RunningStack) -> Iterator[httpx.Client]:
    """A client of the service's HTTP face."""
    root = str(mocked.services[spec.name]["health_url"]).removesuffix("/health")
    with httpx.Client(base_url=root, timeout=10, trust_env=False) as client:
        yield client
