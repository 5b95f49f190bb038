"""What is wrong is said before anything starts: the thing, the place, the next thing to type, the exit code."""

from __future__ import annotations

import contextlib
import http.server
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from hxp_harness.certify.behaviour import Behaviour
from hxp_harness.certify.golden_process import golden
from tests.hxp_harness.run.conftest import program, run_program, write_profile

USAGE, INVALID, NOT_READY = 2, 4, 5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("e2e p50 <= 20 s", "e2f p95 <= 20 s"), "did you mean 'e2e'"),
        (("e2e p50 <= 20 s", "e2e p95 <= 20 rps"), "^"),
        (("e2e p50 <= 20 s", "e2e p95 <= 20 seconds"), "unknown unit 'seconds'"),
        (("e2e p50 <= 20 s", "e2e p99 <= 20 s"), "100 samples a replicate cannot tell a p99"),
        (("rate: 50 rps", "rate: 50"), "rate: 50 has no unit"),
        (("timeout: 20 s", "timeout: 500"), "timeout: 500 has no unit"),
        (("rate: 50 rps", "rate: 50 ms"), "not a rate"),
        (("prompt_tokens", "promt_tokens"), "did you mean 'prompt_tokens'"),
        (("seed: 3", "seed: 3\nseed: 4"), "'seed' stands twice"),
        (("schema: 1", "schema: 2"), "schema"),
    ],
)
def test_a_wrong_profile_is_refused_before_anything_starts(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    """A metric, unit, key or percentile that cannot be is refused with its place and the nearest right spelling."""
    file = write_profile(tmp_path)
    file.write_text(file.read_text(encoding="utf-8").replace(*change), encoding="utf-8")
    done = run_program(tmp_path, "perf", "--profile", str(file), "--target", "http://127.0.0.1:9/v1")

    assert done.code == USAGE, done.err
    assert said in done.err
    assert not (tmp_path / "reports").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("perf", "--model", "mixtrall"), "did you mean 'mixtral'"),
        (("perf", "--profile", "absent.yaml"), "absent.yaml"),
        (("perf", "--model", "mixtral", "--target", "127.0.0.1:9"), "--target"),
        (("perf", "--model", "mixtral", "--api-model", "x"), "--api-model"),
        (
            ("perf", "--model", "mixtral", "--target", "http://127.0.0.1:9/v1", "--api-key-env", "NO_SUCH"),
            "export NO_SUCH",
        ),
        (("perf", "--model", "mixtral", "--require-hardware"), "--engine vllm"),
        (("perf", "--model", "mixtral", "--out", "/proc/run"), "--out"),
        (("perf", "--model", "mixtral", "--engine", "tgi"), "invalid choice"),
        (("judge", "absent"), "absent"),
        (("explain", "absent"), "absent"),
        (("report", "absent"), "absent"),
        (("judge",), "RUN_DIR"),
        (("certify", "--model", "phi"), "did you mean 'phi3'"),
        (("certify", "--model", "phi3", "--hosts", "2"), "--hosts needs --listen HOST:PORT"),
        (("capacity", "--model", "phi3", "--hosts", "2", "--listen", "10.0.0.1:5557"), "--listen 127.0.0.1:5557"),
    ],
)
def test_a_wrong_command_is_refused(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    """A wrong option or name is exit code 2, and the message names what to write instead."""
    done = run_program(tmp_path, *words)

    assert done.code == USAGE, done.err
    assert said in done.err
    assert "Traceback" not in done.err


def test_a_target_that_is_down_is_not_ready(tmp_path: Path) -> None:
    """Where nobody listens the run ends with exit code 5, the URL and what to look at."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        done = run_program(tmp_path, "perf", "--profile", str(write_profile(tmp_path)), "--target", url)

    assert done.code == NOT_READY, done.err
    assert url in done.err
    assert "Traceback" not in done.err


@pytest.fixture
def web_page() -> Iterator[str]:
    """A server that answers everything with a web page."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = b"<html>welcome</html>"
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST  # noqa: N815 - the name that http.server calls

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


def test_a_web_page_is_no_target(tmp_path: Path, web_page: str) -> None:
    """A server that is not OpenAI-shaped is said to be that, with exit code 5."""
    done = run_program(tmp_path, "perf", "--profile", str(write_profile(tmp_path)), "--target", web_page)

    assert done.code == NOT_READY, done.err
    assert "OpenAI" in done.err


@pytest.mark.parametrize(("status", "said"), [(401, "--api-key-env"), (404, "model"), (500, "500")])
def test_a_target_that_refuses_says_what_to_do(tmp_path: Path, status: int, said: str) -> None:
    """A wrong key, an unknown model and a broken server are told apart, before any load."""
    with golden(tmp_path / "golden", Behaviour(status=status, ttft_s=0.001)) as server:
        target = ("--target", server.base_url, "--api-model", "other")
        done = run_program(tmp_path, "perf", "--profile", str(write_profile(tmp_path)), *target)

    assert done.code in {USAGE, NOT_READY}, done.err
    assert said in done.err
    assert "Traceback" not in done.err


@pytest.mark.skipif(not Path("/proc/self/ns/mnt").exists() or psutil.Process().uids().real != 0, reason="needs root")
def test_a_full_disk_is_said_and_leaves_nothing_running(tmp_path: Path) -> None:
    """When the run's folder has no room the run ends as INVALID, says so, and no process is left."""
    small = tmp_path / "small"
    small.mkdir()
    file = write_profile(tmp_path, rate=100)
    file.write_text(file.read_text(encoding="utf-8").replace("requests: 100", "requests: 1500"), encoding="utf-8")
    with golden(tmp_path / "golden", Behaviour(ttft_s=0.005, itl_s=0.001)) as server:
        words = ["perf", "--profile", str(file), "--target", server.base_url, "--api-model", server.model]
        mount = f"mount -t tmpfs -o size=1500k none {small} && exec"
        inner = " ".join([mount, *program(*words), "--out", f"{small}/r"])
        with subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", inner], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        ) as run:
            children: set[psutil.Process] = set()
            while run.poll() is None:
                with contextlib.suppress(psutil.NoSuchProcess):
                    children |= set(psutil.Process(run.pid).children(recursive=True))
                threading.Event().wait(0.2)  # collects who was there while the run goes on
            said = run.stderr.read() if run.stderr else ""

    assert run.returncode == INVALID, said
    assert "No space left" in said
    assert "Traceback" not in said
    assert children
    assert psutil.wait_procs(list(children), timeout=5)[1] == []


def test_the_program_teaches(tmp_path: Path) -> None:
    """--help of the program and of each command has the exit codes; perf has examples."""
    for words in ((), ("perf",), ("judge",), ("explain",), ("report",), ("certify",)):
        done = run_program(tmp_path, *words, "--help")
        assert done.code == 0
        assert "INCONCLUSIVE" in done.out
    assert "hxp perf --model mixtral --quick" in run_program(tmp_path, "perf", "--help").out
