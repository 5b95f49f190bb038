"""One tool on one core against a golden server on another: what it reports, what is true, what it costs."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from types import FrameType

import psutil

from benchmarks.load.environment import HUB
from benchmarks.load.job import Figures, Job, Reported, statistics
from benchmarks.load.noise import Pids
from benchmarks.load.peers import Peer
from benchmarks.meanwhile import meanwhile
from hxp_harness.certify.behaviour import Behaviour
from hxp_harness.certify.golden_process import GoldenServer, golden
from hxp_harness.certify.truth import Truth

STALL_S = 3.0
RATE_SHARE, TTFT_S = 0.02, 0.001
_LOOK_S = 0.1
ENVIRON = {
    "HF_HUB_OFFLINE": "1",
    "HF_HOME": str(HUB.resolve()),
    "VLLM_NO_USAGE_STATS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
_MEMORY_EVERY_S = 1.0
_MOST_S = 180.0  # beyond the load's own time
TAIL_CHARACTERS = 1500


@dataclass(frozen=True, slots=True)
class Outcome:
    """`problem` is empty where the tool came to its end and reported. All in seconds, bytes and requests."""

    tool: str
    rate_rps: float
    problem: str = ""
    reported: Reported | None = None
    true: Figures = field(default_factory=dict)
    arrivals_s: Sequence[float] = ()  # at the server, from the first
    start_up_s: float = 0.0  # from the start of its process to its first request at the server
    cpu_s: float = 0.0  # of all its processes
    largest_rss_bytes: int = 0  # of one process
    memory_bytes: int = 0  # proportional, of all its processes together; 0: not looked at
    golden_cpu_s: float = 0.0
    stalled_at_s: float | None = None  # since the first arrival

    def error_s(self, metric: str, statistic: str) -> float | None:
        """Return reported minus true; None where one of them is missing."""
        told = self.reported.figures.get(metric, {}).get(statistic) if self.reported else None
        true = self.true.get(metric, {}).get(statistic)
        return None if told is None or true is None else told - true

    @property
    def achieved_rps(self) -> float:
        """The rate at which requests came to the server."""
        return (
            (len(self.arrivals_s) - 1) / (self.arrivals_s[-1] - self.arrivals_s[0]) if len(self.arrivals_s) > 2 else 0.0
        )


Disturb = Callable[[Pids], contextlib.AbstractContextManager[None]]


def measure(
    peer: Peer,
    job: Job,
    behaviour: Behaviour,
    *,
    stall: bool = False,
    memory: bool = False,
    noise: Disturb | None = None,
) -> Outcome:
    """Run `peer` for `job`; `job.port` and `job.folder` are filled in here. `noise` disturbs the tool's processes."""
    if peer.missing:
        return Outcome(peer.name, job.rate_rps, peer.missing)
    folder = job.folder / f"{peer.name.replace(' ', '-')}-{job.rate_rps:g}-{time.monotonic_ns()}"
    folder.mkdir(parents=True)
    with golden(folder, behaviour, under=_pinned(0)) as server:
        asked = replace(job, port=server.port, folder=folder.resolve())
        stalled: list[float] = []
        with _stalling(server, stalled) if stall else contextlib.nullcontext():
            begun_s = time.monotonic()
            out, problem, used = _run(peer, asked, memory=memory, noise=noise)
        golden_cpu_s = server.cpu_s
        truths = sorted(server.truths().values(), key=lambda truth: truth.arrived_s)
    mine = [truth for truth in truths if truth.stream]
    if not mine:
        return Outcome(peer.name, job.rate_rps, problem or "no request came to the server")
    reported = None
    if not problem:
        try:
            reported = peer.read(asked, out)
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            problem = f"its report cannot be read: {error!r}"
    first_s = mine[0].arrived_s
    shutil.rmtree(folder, ignore_errors=True)
    return Outcome(
        peer.name,
        job.rate_rps,
        problem,
        reported,
        true_figures(mine),
        [truth.arrived_s - first_s for truth in mine],
        first_s - begun_s,
        *used,
        golden_cpu_s,
        stalled[0] - first_s if stalled else None,
    )


def leave_on_sigterm() -> None:
    """Let SIGTERM end this program as Ctrl-C does: tools and servers are ended on the way out."""

    def leave(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, leave)


def true_figures(truths: Sequence[Truth]) -> Figures:
    """Return the figures of requests that were answered whole, by the server's log: from arrival, middle of a send."""
    times = [
        (truth.arrived_s, [(event.lo_s + event.hi_s) / 2 for event in truth.events])
        for truth in truths
        if truth.ended == "complete" and truth.events
    ]
    gaps_s = [later - sooner for _, sent_s in times for sooner, later in pairwise(sent_s)]
    return {
        "ttft": statistics([sent_s[0] - arrived_s for arrived_s, sent_s in times]),
        "itl": statistics(gaps_s),
        "e2e": statistics([sent_s[-1] - arrived_s for arrived_s, sent_s in times]),
    }


def _pinned(core: int) -> tuple[str, ...]:
    cores = sorted(os.sched_getaffinity(0))
    return ("taskset", "-c", str(cores[core % len(cores)]))


Used = tuple[float, int, int]  # CPU s of all, peak of the largest process, proportional memory of all; bytes


def _run(peer: Peer, job: Job, *, memory: bool, noise: Disturb | None) -> tuple[str, str, Used]:
    """Return its standard output, what went wrong, and what it used."""
    out, log = job.folder / "out.txt", job.folder / "log.txt"
    with out.open("wb") as sink, log.open("wb") as errors:
        process = subprocess.Popen(
            [*_pinned(1), *peer.argv(job)],
            stdout=sink,
            stderr=errors,
            stdin=subprocess.DEVNULL,
            env=os.environ | ENVIRON,
            start_new_session=True,
        )
        try:
            with contextlib.nullcontext() if noise is None else noise(lambda: _tree(process.pid)):
                status, used = _wait(process.pid, job.seconds + _MOST_S, memory=memory)
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            if process.returncode is None:
                _end(process.pid)
                process.wait()
            with contextlib.suppress(ProcessLookupError):  # none is left, as it should be
                os.killpg(process.pid, signal.SIGKILL)
    said = out.read_text(encoding="utf-8", errors="replace")
    problem = ""
    if process.returncode:
        tail = log.read_text(encoding="utf-8", errors="replace")[-TAIL_CHARACTERS:]
        problem = f"exit status {process.returncode}: {' '.join((said[-300:] + tail).split())[-400:]}"
    return said, problem, used


def _wait(pid: int, most_s: float, *, memory: bool) -> tuple[int, Used]:
    """Return the wait status of a tool, which is ended after `most_s`, and what it used."""
    most, largest, until_s, look_s = 0, 0, time.monotonic() + most_s, 0.0
    while True:
        found, status, usage = os.wait4(pid, os.WNOHANG)
        if found:
            return status, (usage.ru_utime + usage.ru_stime, largest, most)
        if memory and time.monotonic() >= look_s:
            together, one = _memory(pid)
            most, largest = max(most, together), max(largest, one)
            look_s = time.monotonic() + _MEMORY_EVERY_S
        if time.monotonic() > until_s:
            _end(pid)
            until_s += most_s
        time.sleep(_LOOK_S)  # polls another process, with a deadline


def _tree(pid: int) -> list[int]:
    """Return a tool's processes."""
    try:
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.Error:
        return []


def _memory(pid: int) -> tuple[int, int]:
    """Return the memory of a process and all below it, each shared page divided, and the peak of the largest one.

    The peak of wait4 would be that of this process, from which they were forked.
    """
    total = largest = 0
    for one in _tree(pid):
        with contextlib.suppress(OSError):
            total += _kilobytes(one, "smaps_rollup", "Pss:") * 1024
            largest = max(largest, _kilobytes(one, "status", "VmHWM:") * 1024)
    return total, largest


def _kilobytes(pid: int, file: str, name: str) -> int:
    lines = Path(f"/proc/{pid}/{file}").read_text(encoding="utf-8").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(name))


def _end(pid: int) -> None:
    """End a tool that does not end, with what it started."""
    for one in reversed(_tree(pid)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)


def _stalling(server: GoldenServer, at: list[float]) -> contextlib.AbstractContextManager[None]:
    """Freeze the server for STALL_S, two seconds after its first answer has ended."""

    def stall(over: threading.Event) -> None:
        while not server.log.stat().st_size:
            if over.wait(0.02):
                return
        if over.wait(2.0):
            return
        os.kill(server.pid, signal.SIGSTOP)
        at.append(time.monotonic())
        over.wait(STALL_S)
        os.kill(server.pid, signal.SIGCONT)

    return meanwhile(stall)


def stalled_truth(outcome: Outcome, job: Job, e2e_s: float) -> Mapping[str, float]:
    """Return e2e as everyone saw it who came when planned: constant arrivals, a server frozen for STALL_S."""
    begin_s = outcome.stalled_at_s or 0.0
    thaw_s = begin_s + STALL_S
    found = []
    for number in range(job.requests):
        due_s = number / job.rate_rps
        end_s = due_s + e2e_s
        found.append((max(end_s, thaw_s) if due_s < thaw_s and end_s > begin_s else end_s) - due_s)
    return statistics(found)


def rung_holds(outcome: Outcome) -> tuple[bool, bool]:
    """Return whether TTFT p99 was within TTFT_S of the truth, and the rate within RATE_SHARE."""
    error_s = outcome.error_s("ttft", "p99")
    rate = abs(outcome.achieved_rps / outcome.rate_rps - 1) <= RATE_SHARE
    return error_s is not None and abs(error_s) <= TTFT_S, rate and not outcome.problem
