"""One server for the whole suite: a model of the stack on the engine of --engine, with a key, or --target."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from hxp_harness.stack import RunningStack
from hxp_harness.target import Target
from reference_stack.catalogue import load_catalogue
from suites.conformance import departures
from suites.conformance.wire import CHAT, COMPLETIONS, Server

FUZZ = Path(__file__).with_name("fuzz")
KEY_VARIABLE = "VLLM_API_KEY"  # where vLLM itself looks for its key
KEY = "sk-conformance-4f1d2c9b"
# What a simulation is told, so that it is as real vLLM with tiny models: that one reads the key by itself.
# As long as tiny vLLM's context, and room for several such requests, which the limits of small models do not leave.
LENGTH = {"max_model_len": "2048", "kv_tokens": "16384"}
OPTIONS = {"api_key_env": KEY_VARIABLE, "enable_auto_tool_choice": "true", **LENGTH}

# An installed harness judges without it; then there are no generated requests, and the header says so.
collect_ignore = [] if find_spec("hypothesis") else ["fuzz"]


def pytest_report_header(config: pytest.Config) -> list[str]:
    if collect_ignore:
        return ["conformance: hypothesis is not installed, so that no requests are generated"]
    seed = config.getoption("--fuzz-seed")
    return [] if seed is None else [f"conformance: generated requests come from --fuzz-seed {seed}"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the departures of a server that is not ours."""
    group = parser.getgroup("hxp")
    group.addoption(
        "--departures",
        type=Path,
        metavar="FILE",
        help="known departures of --target, as in suites/conformance/departures.yaml",
    )
    group.addoption("--fuzz-cases", type=int, default=300, metavar="N", help="generated requests; default: 300")
    group.addoption("--fuzz-minutes", type=float, default=1.0, metavar="M", help="at most so long; default: 1")
    group.addoption("--fuzz-seed", type=int, metavar="N", help="where the requests come from; default: a new one")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "vllm: what vLLM answers beyond OpenAI's API")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Expect the known departures of the engine; refuse a list that names tests which are not there."""
    option = config.getoption
    if option("--target") is None:
        rows = departures.read(departures.OURS, option("--engine"))
    else:
        rows = departures.read(option("--departures"), "target") if option("--departures") else []
    alone = option("--target") is None and option("--engine") == "sim"
    if alone:
        # There is nothing to compare the simulation with; the count of what is left out is shown.
        fuzz = [item for item in items if FUZZ in item.path.parents]
        config.hook.pytest_deselected(items=fuzz)
        items[:] = [item for item in items if item not in fuzz]
    here = [item for item in items if Path(__file__).parent in item.path.parents]
    files = {item.path.name for item in here}
    unused = [row for row in departures.expect(rows, here) if row.test.partition("::")[0] in files]
    whole = not any("::" in argument for argument in config.args)
    if unused and whole:
        raise pytest.UsageError(f"these departures name no test: {', '.join(row.test for row in unused)}")


@pytest.fixture(scope="session")
def keyed(pytestconfig: pytest.Config) -> bool:
    """Whether the server asks for a key."""
    return pytestconfig.getoption("--target") is None or bool(pytestconfig.getoption("--api-key-env"))


@pytest.fixture(scope="session")
def start_models(
    start_stack: Callable[..., RunningStack], pytestconfig: pytest.Config
) -> Callable[..., dict[str, Target]]:
    """Start models of the stack with a key, as in `start_models("hermes", "phi3")["phi3"]`.

    The one that is `embedding` has embeddings and does not generate.
    """
    options = OPTIONS if pytestconfig.getoption("--engine") == "sim" else {}

    def start(*names: str, embedding: str = "") -> dict[str, Target]:
        # Both engines then read the same variable, and neither has a key in its command line.
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv(KEY_VARIABLE, KEY)
            if embedding:
                environment.setenv(f"HXP_STACK_{embedding.upper()}__RUNNER", "pooling")
            stack = start_stack(*names, options=options)
        return {name: replace(stack.target(name), api_key=KEY) for name in names}

    return start


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The server under test."""
    option = request.config.getoption
    if option("--target") is None:
        target = request.getfixturevalue("start_models")(option("--model"))[option("--model")]
    else:
        target = request.getfixturevalue("target")
    with Server(target) as opened:
        yield opened


@pytest.fixture(scope="session")
def others(start_models: Callable[..., dict[str, Target]], pytestconfig: pytest.Config) -> Iterator[dict[str, Server]]:
    """The models beside --model, and that one once more, started for embeddings: together, since that costs least."""
    if pytestconfig.getoption("--target"):
        pytest.skip("of --target it is not known which model it is")
    names = [name for name, spec in load_catalogue().items() if spec.group == "ai_models"]
    with ExitStack() as opened:
        targets = start_models(*names, embedding=pytestconfig.getoption("--model"))
        yield {name: opened.enter_context(Server(target)) for name, target in targets.items()}


@pytest.fixture(scope="session")
def models(server: Server, others: dict[str, Server], pytestconfig: pytest.Config) -> dict[str, Server]:
    """All four models of the stack, on the engine under test; those beside --model are started on first use."""
    return {**others, pytestconfig.getoption("--model"): server}


@pytest.fixture(scope="session")
def embedder(others: dict[str, Server], pytestconfig: pytest.Config) -> Server:
    """A model of the stack that was started for embeddings alone."""
    return others[pytestconfig.getoption("--model")]


@pytest.fixture(scope="session")
def max_model_len(server: Server) -> int:
    """The tokens that prompt and output may have together, as the server lists them."""
    return int(server.get("/v1/models").json["data"][0]["max_model_len"])


@pytest.fixture(params=[CHAT, COMPLETIONS], ids=["chat", "completion"])
def path(request: pytest.FixtureRequest) -> str:
    """Both ways to ask."""
    return str(request.param)
