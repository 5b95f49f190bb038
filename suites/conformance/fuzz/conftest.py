"""The server under test beside a simulation of the same model; how many requests, from which seed, for how long."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from hxp_harness.stack import Want, running
from suites.conformance.conftest import KEY, KEY_VARIABLE, OPTIONS
from suites.conformance.fuzz.comparison import Comparison
from suites.conformance.wire import Server

_SAID = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def fuzz_seed(pytestconfig: pytest.Config) -> int:
    """The seed that all requests come from: --fuzz-seed, or a new one."""
    given = pytestconfig.getoption("--fuzz-seed")
    return random.SystemRandom().randrange(2**32) if given is None else int(given)


@pytest.fixture(scope="session")
def comparison(
    server: Server, max_model_len: int, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Comparison]:
    """The server under test and a simulation without physics, as long and with the same key."""
    model = pytestconfig.getoption("--model")
    options = OPTIONS | {"device": "ideal", "max_model_len": str(max_model_len)}
    want = Want(folder=str(tmp_path_factory.mktemp("simulation")), services=(model,), engine="sim", options=options)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(KEY_VARIABLE, KEY)
        stack = running(want)
        started = stack.__enter__()
    try:
        with Server(replace(started.target(model), api_key=KEY)) as simulated:
            yield Comparison(simulated, server)
    finally:
        stack.__exit__(None, None, None)


@pytest.fixture
def say(pytestconfig: pytest.Config) -> list[str]:
    """Lines that are printed at the end of the run, whether it passes or not."""
    return pytestconfig.stash.setdefault(_SAID, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(_SAID, []):
        terminalreporter.write_line(line)
