"""The self-test as a program: virtual runs of every server, the tables, and whether the promises hold."""

from __future__ import annotations

import contextlib
import enum
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hxp_harness.errors import ExitCode, UsageError
from hxp_harness.selfcheck.holds import server_lines, what_holds
from hxp_harness.selfcheck.planned import TITLE, Lengths, Planned, gate_of, try_planned
from hxp_harness.selfcheck.servers import SERVERS, Draw, Server, truths
from hxp_harness.selfcheck.short import PARTS_OF_LEAST, cells_of, short_lines, try_short
from hxp_harness.selfcheck.table import Cell, broken, lines
from hxp_harness.selfcheck.trial import Trial

RATIOS = (0.75, 0.9, 0.95, 1.0, 1.05, 1.1, 1.25, 1.5)
BATCH = 25  # runs tried together
MARKS = ("<!-- hxp selfcheck begins -->", "<!-- hxp selfcheck ends -->")
PLANNED_BATCH = 5  # sequences of runs as long as the planner asks for


@dataclass(frozen=True, slots=True)
class Size:
    """How much is tried: `runs` of `replicates` of `requests` for each server; `truth` requests to know the truth."""

    runs: int
    power_runs: int  # sequences of runs as long as the planner asks for; 0: none
    truth: int
    replicates: int = 8
    requests: int = 2000


SHORT = Size(runs=100, power_runs=0, truth=2_000_000)
POWER = Size(runs=25, power_runs=25, truth=5_000_000)
FULL = Size(runs=1000, power_runs=50, truth=10_000_000)


class _Kind(enum.IntEnum):
    """What is tried; the number seeds it."""

    RUNS = 2
    PLANNED = 3
    SHORT = 4
    SHORTER = 5  # the least length by the second of PARTS_OF_LEAST


_SHORT = dict(zip((_Kind.SHORT, _Kind.SHORTER), PARTS_OF_LEAST, strict=True))


def _short(servers: Sequence[Server]) -> list[tuple[_Kind, int]]:
    """Return the kinds of short runs, and of which servers; one that is cold for all of a run is slow in all of it."""
    every = [number for number, server in enumerate(servers) if server.stationary]
    warm = [number for number in every if servers[number].truth_of is None]
    return [*((_Kind.SHORT, number) for number in every), *((_Kind.SHORTER, number) for number in warm)]


@dataclass(frozen=True, slots=True)
class _Job:
    """One piece of work: `number` says which server, `batch` which of its runs, and of which kind."""

    number: int
    batch: int
    kind: _Kind


class _Tester:
    """Does the pieces of work; the same piece comes to the same, whoever does it and when."""

    def __init__(self, servers: Sequence[Server], size: Size, seed: int) -> None:
        self._servers, self._size, self._seed = servers, size, seed

    def groups(self) -> list[list[int]]:
        """Return the numbers of servers that differ in their quantile alone: one truth is drawn for all of them."""
        found: dict[Draw, list[int]] = {}
        for number, server in enumerate(self._servers):
            found.setdefault(server.truth_of or server.draw, []).append(number)
        return list(found.values())

    def truths(self, numbers: Sequence[int]) -> dict[int, float]:
        size, first = self._size, self._servers[numbers[0]]
        quantiles = [self._servers[number].quantile for number in numbers]
        total = size.truth * max(self._servers[number].truth_times for number in numbers)
        found = truths(first.truth_of or first.draw, quantiles, self._seed, size.replicates * size.requests, total)
        return dict(zip(numbers, found, strict=True))

    def jobs(self) -> list[_Job]:
        """Return all pieces, the long ones first, or one core waits for them at the end."""
        stationary = [number for number, server in enumerate(self._servers) if server.stationary]
        planned = range(-(-self._size.power_runs // PLANNED_BATCH))
        runs = range(-(-self._size.runs // BATCH))
        return [
            *(_Job(number, batch, _Kind.PLANNED) for number in stationary for batch in planned),
            *(_Job(number, batch, _Kind.RUNS) for number in range(len(self._servers)) for batch in runs),
            *(_Job(number, batch, kind) for kind, number in _short(self._servers) for batch in runs),
        ]

    def do(self, job: _Job, true_s: float) -> list[Cell] | Planned:
        server, size = self._servers[job.number], self._size
        seed = [self._seed, job.kind, job.number, job.batch]
        if job.kind is _Kind.PLANNED:
            return try_planned(server, true_s, PLANNED_BATCH, seed, Lengths(size.replicates, size.requests))
        if job.kind in _SHORT:
            return try_short(server, true_s, BATCH, seed, _SHORT[job.kind])
        gates = [gate_of(server, true_s / ratio) for ratio in RATIOS]
        cells = [Cell(server.name, ratio, size.replicates, server.stationary) for ratio in RATIOS]
        for latency_s in server.draw(np.random.default_rng(seed), BATCH, size.replicates * size.requests):
            trial = Trial(latency_s, size.replicates, server.in_flight)
            for cell, gate, ended in zip(cells, gates, trial.ours(gates), strict=True):
                cell.add(ended, trial.rivals(gate))
        return cells


def selfcheck(
    size: Size,
    seed: int,
    say: Callable[[str], None],
    servers: Sequence[Server] = SERVERS,
    *,
    processes: int | None = None,
    page: Path | None = None,
) -> int:
    """Try every server, print the tables, and return 0 when no promise on error rates is contradicted.

    Work is shared out to so many `processes`; as many as there are cores when None. `page` is a Markdown page that has
    the tables between MARKS, where they are put.
    """
    if page is not None:
        put_between_marks(page, None)
    tester, begun_s = _Tester(servers, size, seed), time.monotonic()
    cells = [[Cell(server.name, ratio, size.replicates, server.stationary) for ratio in RATIOS] for server in servers]
    short = {(kind, number): cells_of(servers[number], _SHORT[kind]) for kind, number in _short(servers)}
    planned = [Planned(server.name) for server in servers]
    count = os.cpu_count() or 1 if processes is None else processes
    # forked, so that servers made of a recording need not be sent
    with _pool(count, tester) as pool:
        say(f"the truth of {len(servers)} servers")
        true_s = {number: one for found in pool.map(_truths, tester.groups()) for number, one in found.items()}
        jobs = {pool.submit(_do, job, true_s[job.number]): job for job in tester.jobs()}
        for future, job in _told(jobs, servers, say, begun_s):
            found = future.result()
            if isinstance(found, Planned):
                planned[job.number] += found
            else:
                into = short[job.kind, job.number] if job.kind in _SHORT else cells[job.number]
                for cell, more in zip(into, found, strict=True):
                    cell.merge(more)
    every = [cell for row in cells for cell in row]
    power = ["", TITLE, *(one.line() for one in planned if one.asked)] if size.power_runs else []
    power += ["", *short_lines(short.values())]
    both = [*every, *(cell for row in short.values() for cell in row)]
    wrong = broken(both)
    head = f"{size.runs:,} runs of {size.replicates} x {size.requests:,} requests of each server, seed {seed}:"
    verdict = [
        "",
        *what_holds(both),
        "",
        *(wrong or ["No rate of false PASS or false FAIL is significantly over 1 %."]),
    ]
    text = "\n".join([*server_lines(servers), "", head, "", *lines(every), *power, *verdict])
    print(text)
    if page is not None:
        put_between_marks(page, text)
    return ExitCode.FAIL if wrong else ExitCode.PASS


@contextlib.contextmanager
def _pool(count: int, tester: _Tester) -> Iterator[ProcessPoolExecutor]:
    """Yield processes that have the tester; when a stop is asked for they end at once, not after all their work."""
    with ProcessPoolExecutor(count, multiprocessing.get_context("fork"), _take, (tester,)) as pool:
        try:
            yield pool
        except BaseException:
            for child in multiprocessing.active_children():
                child.terminate()
            raise


def put_between_marks(page: Path, text: str | None) -> None:
    """Put `text` between the marks of a page; None only looks for them. Raises UsageError when they are missing."""
    try:
        old = page.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {page}: {error.strerror}") from None
    before, begin, rest = old.partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not (begin and end):
        raise UsageError(f"{page} has no place for the tables", hint=f"lines {MARKS[0]} and {MARKS[1]}")
    if text is not None:
        page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")


def _told(
    jobs: dict[Future[list[Cell] | Planned], _Job],
    servers: Sequence[Server],
    say: Callable[[str], None],
    begun_s: float,
) -> Iterator[tuple[Future[list[Cell] | Planned], _Job]]:
    """Yield what is done as it is done, and say how far it is at each twentieth."""
    step = max(len(jobs) // 20, 1)
    for done, future in enumerate(as_completed(jobs), 1):
        if done % step == 0:
            left_s = (time.monotonic() - begun_s) * (len(jobs) - done) / done
            say(f"{done} of {len(jobs)} parts, {servers[jobs[future].number].name}; about {left_s:.0f} s left")
        yield future, jobs[future]


_tester: list[_Tester] = []  # of this process, which does nothing else


def _take(tester: _Tester) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)  # ours is the parent's business
    _tester[:] = [tester]


def _truths(numbers: Sequence[int]) -> dict[int, float]:
    return _tester[0].truths(numbers)


def _do(job: _Job, true_s: float) -> list[Cell] | Planned:
    return _tester[0].do(job, true_s)
