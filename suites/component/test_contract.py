"""The one contract that all twelve services keep."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from hxp_harness.stack import RunningStack, Want, running
from reference_stack.catalogue import ServiceSpec, load_catalogue

EXIT_USAGE = 2
EXIT_NOT_READY = 5


def serve(*words: str) -> subprocess.CompletedProcess[str]:
    """Run `hxp-stack serve` with `words` to its end."""
    argv = [sys.executable, "-m", "reference_stack", "serve", *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)


def test_a_started_service_is_ready(spec: ServiceSpec, face: httpx.Client) -> None:
    """A service that was started says that it is ready, under its own name."""
    answer = face.get("/health/ready")

    assert answer.status_code == 200, answer.text
    assert answer.json()["service"] == spec.name
    assert answer.json()["status"] == "ready"
    assert face.get("/health").status_code == 200


def test_a_started_service_is_live(spec: ServiceSpec, face: httpx.Client) -> None:
    """Liveness answers at once and asks no neighbour."""
    answer = face.get("/health/live")

    assert answer.status_code == 200
    assert answer.json() == {"service": spec.name, "status": "live"}


def test_a_started_service_says_so(face: httpx.Client) -> None:
    """Startup is over once a service was ready, and stays over."""
    assert face.get("/health/ready").status_code == 200
    assert face.get("/health/startup").status_code == 200


def test_metrics_are_a_prometheus_page(face: httpx.Client) -> None:
    """The metrics page parses, is not empty and every family says what it counts."""
    families = list(text_string_to_metric_families(face.get("/metrics").text))

    assert families
    assert all(family.documentation for family in families)


def test_an_unknown_path_is_not_found(face: httpx.Client) -> None:
    """What a service does not offer is 404, never relayed or guessed."""
    assert face.get("/no/such/path").status_code == 404


def test_an_unknown_setting_is_refused(spec: ServiceSpec) -> None:
    """A service does not start with a setting that it does not know, and names it."""
    done = serve(spec.name, "--set", "no_such_setting=1", "--port", "0")

    assert done.returncode == EXIT_USAGE, done.stderr
    assert spec.name in done.stderr
    assert "no_such_setting" in done.stderr


def test_a_taken_port_is_said_plainly(spec: ServiceSpec, mocked: RunningStack) -> None:
    """A service whose port is taken ends with its name, the port and the next thing to type."""
    settings = mocked.services[spec.name].get("settings_file")
    words = [] if settings is None else ["--settings", str(settings)]
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        done = serve(spec.name, *words, "--port", str(port))

    assert done.returncode == EXIT_NOT_READY, done.stderr
    assert str(port) in done.stderr
    assert spec.name in done.stderr
    assert "--port" in done.stderr or "ss -ltnp" in done.stderr


def test_needs_are_services_of_the_catalogue(spec: ServiceSpec) -> None:
    """What a service needs is one of the twelve, and nobody needs itself."""
    assert set(spec.needs) <= set(load_catalogue()) - {spec.name}


def test_a_stopped_service_leaves_nothing(spec: ServiceSpec, want: Callable[[Path], Want], tmp_path: Path) -> None:
    """After a stop no process of the service is left and its port is closed."""
    with running(want(tmp_path)) as stack:
        family = [psutil.Process(stack.pid), *psutil.Process(stack.pid).children(recursive=True)]
        url = str(stack.services[spec.name]["health_url"])
        assert httpx.get(url, trust_env=False).status_code == 200

    _, left = psutil.wait_procs(family, timeout=5)
    assert left == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(url, trust_env=False)


def test_a_killed_stack_leaves_nothing(want: Callable[[Path], Want], tmp_path: Path) -> None:
    """After SIGKILL of the supervisor its services end by themselves."""
    with running(want(tmp_path)) as stack:
        supervisor = psutil.Process(stack.pid)
        family = supervisor.children(recursive=True)
        supervisor.kill()
        _, left = psutil.wait_procs(family, timeout=5)

    assert family
    assert left == []
