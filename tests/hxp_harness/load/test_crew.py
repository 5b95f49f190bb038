"""A load from several workers, through real Locust master, worker and hot-loop processes on 127.0.0.1."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

import hxp_harness
from hxp_harness.errors import InvalidRun, NotReady
from hxp_harness.load.crew import Crew, CrewSession
from hxp_harness.load.folder import KEY_VARIABLE
from hxp_harness.load.plan import Due
from hxp_harness.trace import ErrorKind, Trace
from tests.hxp_harness.load.conftest import (
    DEADLINE_S,
    Peer,
    ServerFactory,
    answering,
    dues,
    events,
    plan_for,
    stream,
)

pytestmark = pytest.mark.usefixtures("greenlets_are_covered")

Process = subprocess.Popen[str]
StartWorker = Callable[..., Process]
StartSending = Callable[..., "Sending"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


def wait_until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, "it never happened"
        time.sleep(0.02)  # polls other processes


@pytest.fixture
def listen() -> str:
    """Return where the master of a test listens."""
    return f"127.0.0.1:{free_port()}"


@pytest.fixture
def start_worker(listen: str) -> Iterator[StartWorker]:
    """Start a worker of that master; at the end every one has ended, and so have its hot loops."""
    started: list[Process] = []

    def start(name: str, *, clients: int = 1, cwd: Path | None = None) -> Process:
        ours = dict(os.environ)
        unmeasured = {
            key: value for key, value in ours.items() if not key.startswith("COV")
        }  # a copy's lines are not ours
        words = ["--join", listen, "--clients", str(clients), "--name", name]
        process = subprocess.Popen(
            [sys.executable, "-m", "hxp_harness.load.locust_worker", *words],
            stderr=subprocess.PIPE,
            text=True,
            env=(ours if cwd is None else unmeasured) | {KEY_VARIABLE: f"key of {name}"},
            cwd=cwd,  # python -m looks there first
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def drain(session: CrewSession) -> list[Trace]:
    deadline_s = time.monotonic() + DEADLINE_S
    traces: list[Trace] = []
    while not session.finished:
        assert time.monotonic() < deadline_s
        traces += session.poll(0.5)
    return traces


def silent(peer: Peer) -> None:
    peer.request()
    peer.wait_until_gone()


def long(count: int) -> list[Due]:
    """Return requests that are due now, and one in a minute, so that only a stop ends the load."""
    return [*dues(count), replace(dues(1)[0], index=count, intended_s=60.0)]


def hot_loops_of(worker: Process) -> list[psutil.Process]:
    return psutil.Process(worker.pid).children()


def test_workers_share_one_load_after_another(
    tmp_path: Path, serve: ServerFactory, listen: str, start_worker: StartWorker
) -> None:
    """Every request is sent once, by keys of the workers' own; Locust's page shows it; at the end all go home."""
    server = serve(answering(stream(events(2))))
    page = free_port()
    said: list[str] = []
    with Crew(listen, 2, tmp_path / "master.log", web_port=page) as crew:
        workers = [start_worker("a", clients=2), start_worker("b")]
        crew.gather(said.append, wait_s=DEADLINE_S)
        for number in range(2):
            with crew.open_session(tmp_path / str(number), plan_for(server.base_url), dues(60, gap_s=0.02)) as session:
                with pytest.raises(InvalidRun, match="not ended"):
                    _ = session.summary
                traces = drain(session)
            assert sorted(trace.index for trace in traces) == list(range(60))
            assert all(trace.ok for trace in traces), traces
            found = session.summary
            assert (found.due, found.sent, found.lost) == (60, 60, ())
            assert [(host.name, host.clients, host.requests, host.traced) for host in found.hosts] == [
                ("a", 2, 40, 40),
                ("b", 1, 20, 20),
            ]
            assert [client.sent for client in sorted(found.clients, key=lambda client: client.host)] == [20, 20, 20]

        def shown() -> list[dict[str, Any]]:
            with contextlib.suppress(httpx.HTTPError):
                rows = httpx.get(f"http://127.0.0.1:{page}/stats/requests", trust_env=False).json()["stats"]
                return [row for row in rows if row["name"] == "replicate 0" and row["num_requests"]]
            return []

        wait_until(lambda: bool(shown()))
    assert [worker.wait(DEADLINE_S) for worker in workers] == [0, 0]
    assert {request.headers["authorization"] for request in server.requests} == {"Bearer key of a", "Bearer key of b"}
    assert said[0] == f"waiting for 2 workers: hxp worker --master {listen}"
    assert {text.split(" joined")[0] for text in said[1:]} == {"worker a", "worker b"}


@dataclass(frozen=True, slots=True)
class Sending:
    """A load under way: every request that is due now is at a server that never answers."""

    crew: Crew
    workers: list[Process]
    session: CrewSession
    base_url: str


@pytest.fixture
def sending(tmp_path: Path, serve: ServerFactory, listen: str, start_worker: StartWorker) -> Iterator[StartSending]:
    """Send a load of `requests` from the workers of these names, as in `sending("a", "b", requests=6)`."""
    with ExitStack() as stack:

        def start(*names: str, requests: int) -> Sending:
            server = serve(silent)
            crew = stack.enter_context(Crew(listen, len(names), tmp_path / "master.log"))
            workers = [start_worker(name) for name in names]
            crew.gather(lambda _: None, wait_s=DEADLINE_S)
            load = crew.open_session(tmp_path / "load", plan_for(server.base_url), long(requests))
            session = stack.enter_context(load)
            wait_until(lambda: session.poll(0.0) == [] and len(server.requests) == requests)
            return Sending(crew, workers, session, server.base_url)

        yield start


def test_a_stop_reaches_every_worker_within_a_second(sending: StartSending) -> None:
    """Open requests of all come back as unfinished, nothing runs on, and the next load may begin."""
    load = sending("a", "b", requests=6)
    begun_s = time.monotonic()
    load.session.stop()
    traces = drain(load.session)
    assert time.monotonic() - begun_s < 10  # a second on an idle machine
    assert sorted(trace.index for trace in traces) == list(range(6))
    assert {trace.error for trace in traces} == {ErrorKind.UNFINISHED}
    assert load.session.summary.stopped_early
    assert [hot_loops_of(worker) for worker in load.workers] == [[], []]


def test_a_killed_worker_is_lost_and_named(tmp_path: Path, sending: StartSending) -> None:
    """The load ends with a summary that names it, its hot loops go with it, and no further load begins without it."""
    load = sending("a", "b", requests=6)
    orphans = hot_loops_of(load.workers[1])
    load.workers[1].kill()
    traces = drain(load.session)
    assert [trace.error for trace in traces] == [ErrorKind.UNFINISHED] * 3
    (sentence,) = load.session.summary.lost
    assert sentence.startswith("worker b was lost (nothing heard of it for ")
    assert sentence.endswith("it had 3 requests, and 0 traces of them came back")
    assert load.session.summary.due == 6
    assert [text.partition(" for ")[0] for text in load.crew.lost] == ["worker b: nothing heard of it"]
    assert len(orphans) == 1
    assert psutil.wait_procs(orphans, timeout=DEADLINE_S)[1] == []
    with (
        load.crew.open_session(tmp_path / "next", plan_for(load.base_url), dues(1)) as session,
        pytest.raises(InvalidRun, match="worker b was lost"),
    ):
        drain(session)


def test_a_worker_that_is_told_to_stop_says_so(sending: StartSending) -> None:
    """Ctrl-C on one of the hosts ends the load there and then, with the reason."""
    load = sending("a", requests=1)
    (worker,) = load.workers
    worker.send_signal(signal.SIGINT)
    drain(load.session)
    assert load.session.summary.lost == (
        "worker a was lost (stopped by hand); it had 2 requests, and 0 traces of them came back",
    )
    assert worker.wait(DEADLINE_S) == 5


def test_workers_end_with_a_killed_master(sending: StartSending) -> None:
    """Without its master a worker stops its load and ends, saying why; the run is told that the master is gone."""
    load = sending("a", requests=1)
    (worker,) = load.workers
    hot_loops = hot_loops_of(worker)
    (master,) = [one for one in psutil.Process().children() if "--listen" in one.cmdline()]
    master.kill()
    master.wait(DEADLINE_S)
    with pytest.raises(InvalidRun, match="has ended"):
        load.crew.order({"stop": True})
    with pytest.raises(InvalidRun, match="has ended"):
        drain(load.session)
    assert worker.wait(DEADLINE_S) == 5
    assert worker.stderr is not None
    assert "nothing heard of the master for" in worker.stderr.read()
    assert psutil.wait_procs(hot_loops, timeout=DEADLINE_S)[1] == []


def test_an_order_that_cannot_be_carried_out_is_told(tmp_path: Path, listen: str, start_worker: StartWorker) -> None:
    """A master that stumbles says over what and ends, where Locust alone would go on as if nothing had happened."""
    with Crew(listen, 1, tmp_path / "master.log") as crew:
        start_worker("a")
        crew.gather(lambda _: None, wait_s=DEADLINE_S)
        crew.order({"load": str(tmp_path / "absent")})
        found: list[dict[str, Any]] = []
        while not found:
            found += crew.events(0.05)
    assert found[0]["ended"] is False
    assert "absent/load.json" in found[0]["why"]


def test_a_worker_of_another_version_is_refused(tmp_path: Path, listen: str, start_worker: StartWorker) -> None:
    """It ends with code 2 and what differs; the master says so too, and goes on waiting for the right one."""
    shutil.copytree(Path(hxp_harness.__file__).parent, tmp_path / "old" / "hxp_harness")
    (tmp_path / "old" / "hxp_harness" / "__init__.py").write_text('__version__ = "2.9.0"\n')
    said: list[str] = []
    with Crew(listen, 1, tmp_path / "master.log") as crew:
        old = start_worker("old", cwd=tmp_path / "old")
        assert old.wait(DEADLINE_S) == 2
        with pytest.raises(NotReady, match="0 of 1 workers joined"):
            crew.gather(said.append, wait_s=0.2)
    why = f"worker old has hxp 2.9.0 instead of {hxp_harness.__version__}"
    assert old.stderr is not None
    assert why in old.stderr.read()
    assert any(why in text for text in said)


def test_a_busy_address_is_said(tmp_path: Path) -> None:
    """A master that cannot listen is no endless wait."""
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        Crew(f"127.0.0.1:{taken.getsockname()[1]}", 1, tmp_path / "master.log") as crew,
        pytest.raises(NotReady, match="has ended"),
    ):
        crew.gather(lambda _: None, wait_s=DEADLINE_S)
