"""A stack is a child process that says when it is ready, and stops when its standard input closes."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from hxp_harness import stack
from hxp_harness.errors import NotReady, UsageError
from hxp_harness.stack import Want, provider, running
from hxp_harness.target import Evidence

SERVICES = {
    "mixtral": {
        "base_url": "http://127.0.0.1:1/v1",
        "api_model": "mixtral",
        "evidence": "simulated",
        "engine": "sim",
        "facts": {"device": "h200"},
        "feasibility": {"verdict": "MARGINAL", "sentence": "MARGINAL: barely"},
    },
    "database": {"health_url": "http://127.0.0.1:2/health"},
}
READY = f"import sys; print({json.dumps(json.dumps({'ready': True, 'services': SERVICES}))}, flush=True); "
UNTIL_EOF = "sys.stdin.read()"


@pytest.fixture
def stack_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make the next stack a Python program."""

    def use(program: str) -> None:
        monkeypatch.setattr(stack, "provider", lambda _name: lambda _want: [sys.executable, "-c", program])

    return use


def test_a_ready_stack_offers_its_services_as_targets(stack_of: Callable[[str], None], tmp_path: Path) -> None:
    """What the stack says of a model becomes a target, its evidence included."""
    stack_of(READY + UNTIL_EOF)
    with running(Want(folder=str(tmp_path))) as up:
        target = up.target("mixtral")
        assert psutil.pid_exists(up.pid)

        assert (target.api_model, target.evidence, target.engine) == ("mixtral", Evidence.SIMULATED, "sim")
        assert target.facts == {"device": "h200"}
        assert (up.prediction("mixtral"), up.prediction("database"), up.prediction("none")) == (
            "MARGINAL: barely",
            "",
            "",
        )
        with pytest.raises(UsageError, match="no model or gateway 'database'"):
            up.target("database")
        with pytest.raises(UsageError, match="did you mean 'mixtral'"):
            up.target("mixtrall")
    assert not psutil.pid_exists(up.pid)


def test_a_stack_that_ignores_its_closed_input_is_ended(
    stack_of: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stack that neither EOF nor SIGTERM stops is killed, so nothing is left running."""
    monkeypatch.setattr(stack, "STOP_S", 0.2)
    stubborn = "import signal, threading; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    stack_of(stubborn + READY + "threading.Event().wait()")
    with running(Want(folder=str(tmp_path))) as up:
        pass
    assert not psutil.pid_exists(up.pid)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("""print('{"ready": false, "error": "port 8000 is taken", "hint": "ss"}')""", "port 8000 is taken"),
        ("""import sys; sys.exit("no such engine")""", "no such engine"),
        ("""import sys; sys.stdin.read()""", "not ready after"),
    ],
)
def test_a_stack_that_does_not_come_up_says_why(
    stack_of: Callable[[str], None], tmp_path: Path, program: str, message: str
) -> None:
    """NotReady carries what the stack said, or the end of its log, or how long was waited."""
    stack_of(program)
    with pytest.raises(NotReady, match=message), running(Want(folder=str(tmp_path)), ready_s=5):
        pass


def test_the_reference_stack_is_installed_and_others_are_named(tmp_path: Path) -> None:
    """The bundled stack is found by its entry point; an unknown one is refused with the known ones."""
    words = provider()({"folder": str(tmp_path), "services": ["mixtral"], "engine": "sim", "weights": "real"})

    assert words[0] == sys.executable
    with pytest.raises(UsageError, match="reference"):
        provider("refrence")
