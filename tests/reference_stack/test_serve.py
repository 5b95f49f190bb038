"""Promises of `serve` and of the face that every service shows."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Counter

from reference_stack.catalogue import closure, load_catalogue
from reference_stack.errors import SettingsError, StackError, nearest
from reference_stack.face import add_face
from reference_stack.serve import ENTRIES, read_settings

SERVE = (sys.executable, "-m", "reference_stack", "serve")


def test_the_twelve_can_be_served() -> None:
    """Every service of the catalogue has a way to be served, and no other has."""
    assert set(ENTRIES) == set(load_catalogue())
    assert len(ENTRIES) == 12


def test_needs_come_before_needers() -> None:
    """The closure of a service has all that it needs, once, before it."""
    order = closure(("api_gateway", "monitoring"))
    assert order.index("database") < order.index("api_gateway")
    assert order.index("metrics") < order.index("monitoring")
    assert len(order) == len(set(order)) == 9


@pytest.mark.parametrize(
    ("name", "text", "assignments", "message"),
    [
        ("cache", "no_such: 1", (), "cache: setting 'no_such'"),
        ("cache", "port: 70000", (), "cache: setting 'port'"),
        ("cache", "", (), "not a mapping"),
        ("cache", "{", (), "is not YAML"),
        ("cache", "{}", ("port",), "'port' is not key=value"),
        ("chache", "{}", (), "no service 'chache'"),
    ],
)
def test_wrong_settings_are_refused_by_name(
    tmp_path: Path, name: str, text: str, assignments: tuple[str, ...], message: str
) -> None:
    """What is wrong with settings is told by service and key, exit 2, before anything is served."""
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=message) as caught:
        read_settings(name, file, assignments)
    assert caught.value.exit_code == 2


def test_assignments_win_over_the_file(tmp_path: Path) -> None:
    """A value given on the command line wins over the file's; a JSON file is read too."""
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"port": 1, "namespace": "a"}))
    settings = read_settings("cache", file, ("port=2",))
    assert (settings.port, settings.namespace) == (2, "a")
    with pytest.raises(SettingsError, match="cannot read"):
        read_settings("cache", tmp_path / "missing.yaml")


def test_the_nearest_spelling_is_offered() -> None:
    """A near miss gets the right word, a far one the whole list; the message carries the hint."""
    assert nearest("mixtrl", ["mixtral", "phi3"]) == "did you mean 'mixtral'?"
    assert nearest("zzz", ["mixtral", "phi3"]) == "known: mixtral, phi3"
    assert str(StackError("wrong", hint="do this")) == "wrong\n  do this"
    assert str(StackError("wrong")) == "wrong"


def test_a_served_service_answers_until_it_is_told_to_stop() -> None:
    """`serve NAME` answers on its port and exits 0 after SIGTERM."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        port = holder.getsockname()[1]
        argv = [*SERVE, "storage", "--port", str(port)]
        with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            while "startup complete" not in (line := process.stderr.readline()):
                assert line, "it ended"
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/live", timeout=5) as answer:
                    assert json.load(answer) == {"service": "storage", "status": "live"}
            finally:
                process.send_signal(signal.SIGTERM)
                process.stderr.read()
            assert process.wait(10) == 0


def test_a_taken_port_is_said_with_the_next_command() -> None:
    """`serve` on a taken port exits 5 and says what to type."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        done = subprocess.run(
            [*SERVE, "storage", "--port", port], capture_output=True, text=True, timeout=30, check=False
        )
    assert done.returncode == 5
    assert f"storage: cannot listen on 127.0.0.1:{port}: Address already in use" in done.stderr
    assert "--port 0" in done.stderr


def test_a_port_that_is_none_is_said() -> None:
    """A number beyond the last port is a mistake of who typed it: exit 2, and which ones there are."""
    done = subprocess.run(
        [*SERVE, "storage", "--port", "99999"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "storage: there is no port 99999" in done.stderr
    assert "Traceback" not in done.stderr


async def test_the_face_is_live_while_a_dependency_is_out() -> None:
    """Live says nothing of dependencies; ready and health do, by name, with 503; metrics are Prometheus text."""
    app, registry = FastAPI(), CollectorRegistry()
    Counter("seen", "things seen", registry=registry).inc()

    async def check() -> Mapping[str, str]:
        return {"disk": "", "network": "cut"}

    add_face(app, "thing", check, registry)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://t") as client:
        assert (await client.get("/health/live")).status_code == 200
        for path in ("/health", "/health/ready"):
            answer = await client.get(path)
            assert answer.status_code == 503
            assert answer.json() == {
                "service": "thing",
                "status": "unready",
                "dependencies": {"disk": "", "network": "cut"},
            }
        assert "seen_total 1.0" in (await client.get("/metrics")).text
