from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from benchmarks.gateway import ours, subjects
from benchmarks.gateway.backing import backing
from benchmarks.gateway.measure import Bench
from benchmarks.gateway.processes import tree
from benchmarks.gateway.programs import CannotRun, Load, Programs, backend
from benchmarks.gateway.room import Room
from benchmarks.gateway.subjects import Command, free_port, running

CACHE = Path(__file__).parents[2] / ".hxp" / "cache"


def test_a_subject_that_does_not_start_is_said_with_its_log(tmp_path: Path) -> None:
    """A program that ends before it serves is an error with the last that it said."""
    command = Command((sys.executable, "-c", "raise SystemExit('no such model')"), free_port())
    with pytest.raises(CannotRun, match="no such model"), running(command, tmp_path):
        pass


def test_a_subject_is_ended(tmp_path: Path) -> None:
    """What a subject started is gone when it is."""
    port = free_port()
    child = "import time; time.sleep(60)"  # lives until it is ended
    serve = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {child!r}]).pid, flush=True)"
    serve += (
        f"; import http.server; http.server.test(http.server.SimpleHTTPRequestHandler, port={port}, bind='127.0.0.1')"
    )
    with running(Command((sys.executable, "-c", serve), port, "/"), tmp_path) as found:
        started = int((tmp_path / "log").read_text().split()[0])
        assert {found.pid, started} == set(tree(found.pid))
    deadline_s = time.monotonic() + 10
    while any(map(_runs, (found.pid, started))):
        assert time.monotonic() < deadline_s


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_our_gateway_is_read(programs: Programs, tmp_path: Path) -> None:
    """The gateway as the benchmark starts it serves whole answers and streams without error; its cost is seen."""
    cores = frozenset(os.sched_getaffinity(0))
    (tmp_path / "backing").mkdir()
    with backend(programs) as served, backing(tmp_path / "backing", CACHE, cores) as behind:
        room = Room(Bench(programs, served, tmp_path, cores), behind, cores, CACHE, lambda _said: None)
        bench = room.bench
        with room.settled():
            gateway = room.start_ours(ours.Variant(keys=3))
            assert gateway is not None
            whole = bench.read("ours", gateway, "whole", Load(connections=8, warm_s=0.1, seconds=0.3))
            streams = bench.read(
                "ours", gateway, "streams", Load(connections=8, warm_s=0.1, seconds=0.3, events=20, gap_us=1000)
            )
    assert (whole.errors, streams.errors, whole.first_error) == (0, 0, "")
    assert whole.requests_per_s > 0
    assert streams.events_per_s > 0
    assert 5 < whole.cpu_us < 50_000
    assert 20e6 < streams.memory_bytes < 500e6
    assert streams.first_event_p50_us > 0


def test_the_bare_relay_relays(programs: Programs, tmp_path: Path) -> None:
    """The floor of the comparison passes whole answers and streams on as the backend made them."""
    cores = frozenset(os.sched_getaffinity(0))
    with backend(programs) as served, running(subjects.bare(served.port), tmp_path) as relay:
        bench = Bench(programs, served, tmp_path, cores)
        whole = bench.read("bare", relay, "whole", Load(connections=8, warm_s=0.1, seconds=0.2))
        load = Load(connections=8, warm_s=0.1, seconds=0.2, events=20, gap_us=1000)
        streams = bench.read("bare", relay, "streams", load)
    assert (whole.errors, whole.first_error, streams.errors, streams.first_error) == (0, "", 0, "")
    assert whole.requests_per_s > 0
    assert streams.events_per_s > 0


def test_version_is_found() -> None:
    """A version is the first number with dots that a program says, "?" where it says none or is not there."""
    assert subjects.version_of(Path(sys.executable), "-V") == ".".join(map(str, sys.version_info[:3]))
    assert subjects.version_of(Path("/bin/true")) == "?"
    assert subjects.version_of(Path("/no/such")) == "?"
