"""The hot-loop process: what it reads, what it leaves behind, how it stops."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hxp_harness.load.folder import KEY_VARIABLE, LoadFolder
from hxp_harness.load.generator import find_address, main
from hxp_harness.load.plan import Due, LoadPlan
from hxp_harness.load.schedule import write_schedule
from hxp_harness.load.trace_file import read_traces
from hxp_harness.trace import ErrorKind
from tests.hxp_harness.load.conftest import (
    DEADLINE_S,
    Peer,
    ServerFactory,
    answering,
    dues,
    events,
    killed_at_the_end,
    plan_for,
    stream,
)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """`main` is a process's own: called in this one, its priority and limit would stay for every test that follows."""
    priority, descriptors = os.getpriority(os.PRIO_PROCESS, 0), resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    os.setpriority(os.PRIO_PROCESS, 0, priority)
    resource.setrlimit(resource.RLIMIT_NOFILE, descriptors)


def prepare(path: Path, plan: LoadPlan, schedule: list[Due]) -> LoadFolder:
    folder = LoadFolder(path)
    folder.write_plan(plan)
    write_schedule(folder.schedule, schedule)
    return folder


def start(folder: LoadFolder) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "hxp_harness.load.generator", str(folder.path)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, KEY_VARIABLE: "key"},
    )


def run_to_end(folder: LoadFolder, *, descriptors: int = 0) -> tuple[int, str]:
    """Return exit status and standard error of a run that nobody stops, with at most so many open files."""
    with start(folder) as process, killed_at_the_end(process):
        if descriptors:
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (descriptors, descriptors))
        status = process.wait(DEADLINE_S)
        assert process.stderr is not None
        return status, process.stderr.read()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, "it never happened"
        time.sleep(0.01)  # polls another process


def silent(peer: Peer) -> None:
    peer.request()
    peer.wait_until_gone()


def test_a_schedule_is_sent_and_summed_up(tmp_path: Path, serve: ServerFactory) -> None:
    """Every request has its trace, the key comes from the environment, the summary accounts for all."""
    server = serve(answering(stream(events(2))))
    folder = prepare(tmp_path, plan_for(server.base_url), dues(5, gap_s=0.01))
    before_s = time.monotonic()
    status, said = run_to_end(folder)
    assert status == 0, said
    traces = list(read_traces(folder.traces))
    assert sorted(trace.index for trace in traces) == [0, 1, 2, 3, 4]
    assert all(trace.ok for trace in traces), traces
    summary = folder.read_summary()
    assert (summary.due, summary.sent, summary.stamps, summary.stopped_early) == (5, 5, "kernel", False)
    assert before_s < summary.t0_monotonic_s < time.monotonic()
    assert summary.clock_step_s < 0.01
    assert summary.cpu_s > 0
    assert summary.peak_rss_bytes > 1_000_000
    assert {request.headers["authorization"] for request in server.requests} == {"Bearer key"}
    assert len({request.headers["x-request-id"] for request in server.requests}) == 5


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "parent gone"])
def test_it_stops_when_told(tmp_path: Path, serve: ServerFactory, how: str) -> None:
    """An early stop leaves whole traces of what was open, a summary, and exit status 0."""
    server = serve(silent)
    folder = prepare(tmp_path, plan_for(server.base_url), [*dues(2), replace(dues(1)[0], index=2, intended_s=60.0)])
    with start(folder) as process, killed_at_the_end(process):
        wait_until(lambda: len(server.requests) == 2)
        if how == "parent gone":
            assert process.stdin is not None
            process.stdin.close()
        else:
            process.send_signal(signal.Signals[how])
        assert process.wait(DEADLINE_S) == 0
    assert [trace.error for trace in read_traces(folder.traces)] == [ErrorKind.UNFINISHED] * 2
    summary = folder.read_summary()
    assert (summary.due, summary.sent, summary.stopped_early) == (2, 2, True)


def test_a_full_disk_ends_it_loudly(tmp_path: Path, serve: ServerFactory) -> None:
    """Without room for traces the process stops, says so in words and fails."""
    server = serve(answering(stream(events(1))))
    folder = prepare(tmp_path, plan_for(server.base_url), dues(500, gap_s=0.02))
    folder.traces.symlink_to("/dev/full")
    status, said = run_to_end(folder)
    assert status == 1
    assert "No space left" in said
    assert "No space left" in folder.read_error()
    assert not folder.summary.exists()


def test_a_host_without_address_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A name that nobody knows is an error in words."""
    folder = prepare(tmp_path, plan_for("http://no-such-host.invalid/v1"), dues(1))
    assert main([str(tmp_path)]) == 1
    assert "the load generator stopped" in capfd.readouterr().err
    assert folder.read_error()


def test_a_folder_without_plan_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A missing file is named."""
    assert main([str(tmp_path)]) == 1
    assert "load.json" in capfd.readouterr().err


def test_of_several_addresses_the_answering_one_is_taken(serve: ServerFactory) -> None:
    """Localhost may be two addresses and the server on one of them."""
    server = serve(silent)
    address = find_address(plan_for(f"http://localhost:{server.port}/v1"))
    assert address.sockaddr[:2] == ("127.0.0.1", server.port)
    assert address.tls is None


def test_https_means_tls() -> None:
    """The scheme decides, and port 443 is its default."""
    address = find_address(plan_for("https://127.0.0.1/v1"))
    assert address.tls is not None
    assert address.sockaddr == ("127.0.0.1", 443)


def test_requests_beyond_the_machines_descriptors_are_not_sent(tmp_path: Path, serve: ServerFactory) -> None:
    """What this machine could not send is its own kind: the target is not blamed."""
    server = serve(silent)
    folder = prepare(tmp_path, plan_for(server.base_url, timeout_s=1.0), dues(60))
    status, said = run_to_end(folder, descriptors=32)
    assert status == 0, said
    errors = Counter(trace.error for trace in read_traces(folder.traces))
    assert set(errors) == {ErrorKind.TIMEOUT, ErrorKind.NOT_SENT}
    assert errors.total() == 60
    assert folder.read_summary().sent == errors[ErrorKind.TIMEOUT]
