"""Promises of the commands to a parent, and of the pause before a worker is replaced."""

from __future__ import annotations

import json
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reference_stack.__main__ import main
from reference_stack.errors import NotReady
from reference_stack.workers.backoff import Backoff
from reference_stack.workers.control import Control, command


class Fake:
    """Takes commands, and does nothing but tell of them."""

    def __init__(self) -> None:
        self.selector: selectors.BaseSelector = selectors.DefaultSelector()
        self.heard: list[str] = []
        self.refuses = ""
        self.ended = False

    def status(self) -> dict[str, object]:
        return {"pid": 7, "generation": 2, "workers": [{"pid": 8, "state": "serving", "age_s": 1.5}]}

    def restart(self, told: Callable[[str], None]) -> None:
        self.heard.append("restart")
        told(self.refuses)

    def reload(self, told: Callable[[str], None]) -> None:
        self.heard.append("reload")
        told(self.refuses)

    def stop(self) -> None:
        self.heard.append("stop")


@contextmanager
def commanded(path: Path) -> Iterator[Fake]:
    """A parent that takes commands at `path`."""
    fake = Fake()

    def turn() -> None:
        while not fake.ended:
            for key, _ in fake.selector.select(0.01):
                key.data()

    with Control(path, fake):
        thread = threading.Thread(target=turn)
        thread.start()
        try:
            yield fake
        finally:
            fake.ended = True
            thread.join()
    assert not path.exists()


def test_commands_are_done_and_answered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command reaches the parent and is answered; the program shows the answer, or the reason and exits 1."""
    deep = tmp_path.joinpath(*["a folder of a rather long name"] * 5)  # longer than a socket's address may be
    deep.mkdir(parents=True)
    with commanded(deep / "gateway.sock") as fake:
        for word in ("restart", "reload", "drain"):
            assert main(["gateway", word, "--folder", str(deep)]) == 0
        deadline = time.monotonic() + 10
        while "stop" not in fake.heard:  # it is answered before it is done: afterwards nobody may be there to answer
            assert time.monotonic() < deadline
        assert fake.heard == ["restart", "reload", "stop"]
        assert main(["gateway", "status", "--control", str(deep / "gateway.sock")]) == 0
        out = capsys.readouterr().out
        assert "all workers are new" in out
        assert "parent 7, renewed 2 times" in out
        assert "8         serving   1.5 s" in out
        assert main(["gateway", "status", "--folder", str(deep), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["workers"][0]["pid"] == 8
        fake.refuses = "f.yaml:3: api_gateway: setting 'x': no such setting"
        assert main(["gateway", "reload", "--folder", str(deep)]) == 1
        assert "f.yaml:3" in capsys.readouterr().err
        answer = command(deep / "gateway.sock", "restrat", 5.0)
        assert answer == {"ok": False, "error": "no command 'restrat': did you mean 'restart'?"}


def test_nobody_there_is_said_plainly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a gateway, or with one that does not answer, a command says so and exits 5."""
    assert main(["gateway", "status", "--folder", str(tmp_path)]) == 5
    assert "no gateway listens at" in capsys.readouterr().err
    assert main(["gateway", "status", "--folder", str(tmp_path / "nowhere")]) == 5
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "mute"))
        sock.listen()
        with pytest.raises(NotReady, match="did not answer within"):
            command(tmp_path / "mute", "status", 0.05)


def test_a_control_that_cannot_be_opened_is_said(tmp_path: Path) -> None:
    """A folder that is not there is named, with the setting to change."""
    with pytest.raises(NotReady, match="cannot open"):
        Control(tmp_path / "no" / "x", Fake())


def test_a_worker_is_replaced_at_once_unless_it_dies_again_and_again() -> None:
    """Two early deaths may be bad luck; then the pause doubles up to 5 s, until a worker lives."""
    backoff = Backoff(settled_s=5.0)
    assert [backoff.pause_s(0.5) for _ in range(11)] == [0, 0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5]
    assert backoff.pause_s(6.0) == 0
    assert backoff.pause_s(0.5) == 0
