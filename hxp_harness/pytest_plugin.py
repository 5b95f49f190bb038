"""The pytest plugin `hxp`: a stack, a target, a probe, a golden server and faults as fixtures."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from hxp_harness.certify.golden_process import GoldenServer
    from hxp_harness.faults.fixture import Faults
    from hxp_harness.probe import Probe
    from hxp_harness.stack import RunningStack
    from hxp_harness.target import Target


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the same options as the program."""
    group = parser.getgroup("hxp", "judge an LLM serving stack")
    group.addoption("--target", metavar="URL", help="an OpenAI-compatible server (ends in /v1) instead of the stack")
    group.addoption("--api-model", metavar="NAME", help="the model's name at --target")
    group.addoption("--api-key-env", metavar="VAR", help="environment variable that holds the key of --target")
    group.addoption("--model", default="mixtral", metavar="NAME", help="the stack's model to aim at; default: mixtral")
    group.addoption("--engine", choices=("sim", "vllm"), default="sim", help="of the stack; default: sim")
    group.addoption("--weights", choices=("real", "dummy", "tiny"), default="real", help="of vllm; default: real")


def pytest_configure(config: pytest.Config) -> None:
    """Know the mark of tests that are about a risk of the OWASP lists."""
    config.addinivalue_line("markers", 'owasp(*risks): what it promises is about these, as in "API1:2023"')


@pytest.fixture(scope="session")
def start_stack(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., RunningStack]]:
    """Start stacks that end with the session, as in `start_stack("mixtral", "database", mock=True)`."""
    from hxp_harness.stack import Want, running

    with ExitStack() as started:

        def start(*services: str, mock: bool = False, options: dict[str, str] | None = None) -> RunningStack:
            want = Want(
                folder=str(tmp_path_factory.mktemp("stack")),
                services=services,
                engine=pytestconfig.getoption("--engine"),
                weights=pytestconfig.getoption("--weights"),
                mock=mock,
                options=options or {},
            )
            return started.enter_context(running(want))

        yield start


@pytest.fixture(scope="session")
def stack(start_stack: Callable[..., RunningStack]) -> RunningStack:
    """Run all twelve services, embedded, on free ports: `stack.services["database"]`, `stack.target("mixtral")`."""
    return start_stack()


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest) -> Target:
    """The server under test: --target where it is given, else one model of the stack, started alone."""
    from hxp_harness.target import Target, check_base_url

    option = request.config.getoption
    if option("--target") is None:
        start: Callable[..., RunningStack] = request.getfixturevalue("start_stack")
        return start(option("--model")).target(option("--model"))
    api_key = os.environ[option("--api-key-env")] if option("--api-key-env") else ""
    return Target(check_base_url(option("--target")), option("--api-model") or option("--model"), api_key)


@pytest.fixture
def probe() -> Iterator[Callable[[Target], Probe]]:
    """Ask a target single questions, as in `probe(target).complete("hello").text`."""
    from hxp_harness.probe import Probe

    with ExitStack() as opened:
        yield lambda target: opened.enter_context(Probe(target))


@pytest.fixture
def service(stack: RunningStack) -> Callable[[str], dict[str, object]]:
    """Look up what the running stack says of a service, as in `service("database")["health_url"]`."""
    return lambda name: dict(stack.services[name])


@pytest.fixture
def golden(tmp_path: Path) -> Iterator[GoldenServer]:
    """A server whose timing is known: golden.base_url, golden.truth(request_id)."""
    from hxp_harness.certify.golden_process import golden

    with golden(tmp_path) as server:
        yield server


@pytest.fixture
def faults() -> Iterator[Faults]:
    """Break the way to a server, as in `with faults.latency(target, delay_s=0.5) as slow`."""
    from hxp_harness.faults.fixture import Faults

    with Faults() as available:
        yield available
