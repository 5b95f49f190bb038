"""A load session as the run sees it, through real hot-loop processes, with Locust's page and without."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest

from hxp_harness.errors import InvalidRun
from hxp_harness.load.folder import LoadFolder
from hxp_harness.load.page_session import PageSession
from hxp_harness.load.session import LoadSession, Session
from hxp_harness.trace import ErrorKind, Trace
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


def drain(session: Session) -> list[Trace]:
    deadline_s = time.monotonic() + DEADLINE_S
    traces: list[Trace] = []
    while not session.finished:
        assert time.monotonic() < deadline_s
        traces += session.poll(0.5)
    return traces


def silent(peer: Peer) -> None:
    peer.request()
    peer.wait_until_gone()


def load_processes() -> list[psutil.Process]:
    """Return the load processes below this one; other tests may keep servers of their own here."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if any("hxp_harness.load" in word for word in child.cmdline()):
                found.append(child)
    return found


def test_a_session_hands_out_every_trace_once(tmp_path: Path, serve: ServerFactory) -> None:
    """Traces come as requests end, then the summary; afterwards nothing runs."""
    server = serve(answering(stream(events(2))))
    with LoadSession(tmp_path / "run", plan_for(server.base_url), dues(30, gap_s=0.02), api_key="k") as session:
        with pytest.raises(InvalidRun, match="not ended"):
            _ = session.summary
        traces = drain(session)
        assert session.poll(0.0) == []
        assert session.summary.sent == 30
    assert sorted(trace.index for trace in traces) == list(range(30))
    assert all(trace.ok for trace in traces), traces
    assert {request.headers["authorization"] for request in server.requests} == {"Bearer k"}
    assert "Bearer" not in (tmp_path / "run" / "load.json").read_text()
    assert load_processes() == []


def test_several_clients_share_a_session(tmp_path: Path, serve: ServerFactory) -> None:
    """Two clients send every request once, on one time line; the summary tells what each did and both did."""
    server = serve(answering(stream(events(2))))
    with LoadSession(tmp_path / "run", plan_for(server.base_url), dues(30, gap_s=0.02), clients=2) as session:
        traces = drain(session)
    assert sorted(trace.index for trace in traces) == list(range(30))
    assert all(trace.ok for trace in traces), traces
    summary = session.summary
    assert [(client.due, client.sent) for client in summary.clients] == [(15, 15), (15, 15)]
    assert (summary.due, summary.sent, summary.stamps) == (30, 30, "kernel")
    assert summary.cpu_s == pytest.approx(sum(client.cpu_s for client in summary.clients))
    assert summary.busiest_cpu_s == max(client.cpu_s for client in summary.clients)
    parts = [LoadFolder(tmp_path / "run").part(number) for number in (1, 2)]
    assert len({json.loads(part.read_text())["t0_monotonic_s"] for part in parts}) == 1
    assert len({request.headers["x-request-id"] for request in server.requests}) == 30
    assert load_processes() == []


def test_clients_stop_together(tmp_path: Path, serve: ServerFactory) -> None:
    """A stop reaches every client, and each writes down what it had open."""
    server = serve(silent)
    schedule = [*dues(4), replace(dues(1)[0], index=4, intended_s=60.0)]
    with LoadSession(tmp_path, plan_for(server.base_url), schedule, clients=2) as session:
        deadline_s = time.monotonic() + DEADLINE_S
        while len(server.requests) < 4 and time.monotonic() < deadline_s:
            assert session.poll(0.05) == []
        session.stop()
        traces = drain(session)
    assert sorted((trace.index, trace.error) for trace in traces) == [
        (index, ErrorKind.UNFINISHED) for index in range(4)
    ]
    assert session.summary.stopped_early


def test_a_killed_client_takes_the_others_along(tmp_path: Path, serve: ServerFactory) -> None:
    """Without one of its clients a load is not the one that was asked for: the rest stops, the run is invalid."""
    server = serve(silent)
    schedule = [*dues(4), replace(dues(1)[0], index=4, intended_s=60.0)]
    with LoadSession(tmp_path, plan_for(server.base_url), schedule, clients=2) as session:
        deadline_s = time.monotonic() + DEADLINE_S
        while len(server.requests) < 4 and time.monotonic() < deadline_s:
            session.poll(0.05)
        hot_loop, _ = [child for child in load_processes() if "hxp_harness.load.generator" in child.cmdline()]
        hot_loop.kill()
        with pytest.raises(InvalidRun, match="failed"):
            drain(session)
    assert load_processes() == []


def test_a_session_stops_early_when_asked(tmp_path: Path, serve: ServerFactory) -> None:
    """After stop the open requests are unfinished and the rest was never due."""
    server = serve(silent)
    schedule = [*dues(2), replace(dues(1)[0], index=2, intended_s=60.0)]
    with LoadSession(tmp_path, plan_for(server.base_url), schedule) as session:
        deadline_s = time.monotonic() + DEADLINE_S
        while len(server.requests) < 2 and time.monotonic() < deadline_s:
            assert session.poll(0.05) == []
        session.stop()
        traces = drain(session)
        session.stop()
    assert [trace.error for trace in traces] == [ErrorKind.UNFINISHED] * 2
    assert session.summary.stopped_early


def test_a_stop_right_after_the_start_is_not_lost(tmp_path: Path, serve: ServerFactory) -> None:
    """A child that is still starting stops as soon as it can, in good order."""
    server = serve(silent)
    with LoadSession(tmp_path, plan_for(server.base_url), [replace(dues(1)[0], intended_s=60.0)]) as session:
        session.stop()
        assert drain(session) == []
        assert session.summary.due == 0


def test_leaving_a_session_leaves_nothing_running(tmp_path: Path, serve: ServerFactory) -> None:
    """An exception in the run stops the children."""
    server = serve(silent)
    with pytest.raises(ZeroDivisionError), LoadSession(tmp_path, plan_for(server.base_url), dues(1)):
        raise ZeroDivisionError
    assert load_processes() == []


def test_a_crash_of_the_hot_loop_is_an_invalid_run(tmp_path: Path) -> None:
    """What the child said last is in the message."""
    with (
        LoadSession(tmp_path, plan_for("http://no-such-host.invalid/v1"), dues(1)) as session,
        pytest.raises(InvalidRun, match=r"failed \(exit status 1\)") as caught,
    ):
        drain(session)
    assert "load.log" in caught.value.hint


def test_a_killed_hot_loop_is_an_invalid_run(tmp_path: Path, serve: ServerFactory) -> None:
    """A child that dies without a word is not taken for one that was done."""
    server = serve(silent)
    with LoadSession(tmp_path, plan_for(server.base_url), dues(1)) as session:
        deadline_s = time.monotonic() + DEADLINE_S
        while not server.requests and time.monotonic() < deadline_s:
            session.poll(0.05)
        (hot_loop,) = [child for child in load_processes() if "hxp_harness.load.generator" in child.cmdline()]
        hot_loop.kill()
        with pytest.raises(InvalidRun, match="failed"):
            drain(session)


def test_a_folder_that_cannot_be_written_is_an_invalid_run(tmp_path: Path) -> None:
    """No room and no right to write are said before anything starts."""
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidRun, match="cannot write"), LoadSession(tmp_path / "file", plan_for("http://h/v1"), []):
        pass


def test_a_session_that_was_not_started_has_nothing(tmp_path: Path) -> None:
    """Polling before the start is an error, not an endless wait."""
    session = LoadSession(tmp_path, plan_for("http://h/v1"), [])
    session.stop()
    with pytest.raises(InvalidRun, match="never started"):
        session.poll(0.0)
    session.__exit__()


def test_children_die_with_a_killed_parent(tmp_path: Path, serve: ServerFactory) -> None:
    """A SIGKILL of the run leaves no orphan, and the traces so far stay readable."""
    server = serve(silent)
    program = textwrap.dedent(f"""
        import time
        from pathlib import Path
        from hxp_harness.load.plan import Due, LoadPlan
        from hxp_harness.load.session import LoadSession
        plan = LoadPlan({server.base_url!r}, "m", "chat", True, 30.0)
        with LoadSession(Path({str(tmp_path)!r}), plan, [Due(0, 0, 0.0, 16, 4, 1)]) as session:
            while True:
                session.poll(1.0)
    """)
    with subprocess.Popen([sys.executable, "-c", program]) as parent, killed_at_the_end(parent):
        deadline_s = time.monotonic() + DEADLINE_S
        while not server.requests and time.monotonic() < deadline_s:
            time.sleep(0.02)  # polls another process
        children = psutil.Process(parent.pid).children(recursive=True)
        assert len(children) == 1
        os.kill(parent.pid, signal.SIGKILL)
    deadline_s = time.monotonic() + DEADLINE_S
    while any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children):
        assert time.monotonic() < deadline_s, "an orphan goes on"
        time.sleep(0.02)  # polls other processes
    assert json.loads(LoadFolder(tmp_path).part(1).read_text())["stopped_early"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


def rows_of_page(port: int) -> list[dict[str, object]]:
    """Return what Locust's page says of the replicates, nothing while it is not there."""
    with contextlib.suppress(httpx.HTTPError):
        rows = httpx.get(f"http://127.0.0.1:{port}/stats/requests", trust_env=False).json()["stats"]
        return [row for row in rows if row["name"] == "replicate 0"]
    return []


@pytest.mark.usefixtures("greenlets_are_covered")
def test_locusts_page_shows_the_load(tmp_path: Path, serve: ServerFactory) -> None:
    """With a port for it, Locust's own page counts the requests while they come; its numbers are used for nothing."""
    server = serve(answering(stream(events(2))))
    schedule = [*dues(3), replace(dues(1)[0], index=3, intended_s=60.0)]
    port = free_port()
    with PageSession(tmp_path, plan_for(server.base_url), schedule, web_port=port, clients=2) as session:
        deadline_s = time.monotonic() + DEADLINE_S
        traces: list[Trace] = []
        while not (rows := rows_of_page(port)) and time.monotonic() < deadline_s:
            traces += session.poll(0.05)
        assert [(row["num_requests"], row["num_failures"]) for row in rows] == [(3, 0)]
        session.stop()
        traces += drain(session)
        assert session.summary.sent == 3
    assert sorted(trace.index for trace in traces if trace.ok) == [0, 1, 2]
    assert load_processes() == []


@pytest.mark.usefixtures("greenlets_are_covered")
def test_a_page_does_not_hide_that_the_load_failed(tmp_path: Path) -> None:
    """What the hot loop said last is in the message, whoever started it."""
    plan = plan_for("http://no-such-host.invalid/v1")
    with (
        PageSession(tmp_path, plan, dues(1), web_port=free_port()) as session,
        pytest.raises(InvalidRun, match=r"failed \(exit status 1\)"),
    ):
        drain(session)


def test_a_page_that_was_not_opened_shows_nothing(tmp_path: Path) -> None:
    """Polling before the start is an error here too, and leaving is none."""
    session = PageSession(tmp_path, plan_for("http://h/v1"), [], web_port=1)
    session.stop()
    with pytest.raises(InvalidRun, match="never started"):
        session.poll(0.0)
    session.__exit__()


def test_the_memory_of_a_client_is_its_own(tmp_path: Path, serve: ServerFactory) -> None:
    """However much memory the run has that starts it, a small load takes little."""
    ballast = bytearray(200 * 2**20)
    ballast[::4096] = b"x" * len(ballast[::4096])
    server = serve(answering(stream(events(2))))
    with LoadSession(tmp_path, plan_for(server.base_url), dues(3)) as session:
        drain(session)
    assert len(ballast) > 200 * 10**6 > session.summary.peak_rss_bytes > 10 * 10**6


def test_a_summary_that_cannot_be_kept_is_an_invalid_run(tmp_path: Path, serve: ServerFactory) -> None:
    """A load whose summary finds no place is not taken for one without faults."""
    server = serve(answering(stream(events(2))))
    with LoadSession(tmp_path, plan_for(server.base_url), dues(1)) as session:
        LoadFolder(tmp_path).summary.mkdir()
        with pytest.raises(InvalidRun, match="cannot be kept"):
            drain(session)
