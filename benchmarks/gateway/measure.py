"""One reading: a subject under a load, what the client saw and what the subject's processes took."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.gateway.processes import cpu_s, largest_bytes, memory_bytes
from benchmarks.gateway.programs import Backend, Load, Programs, ask
from benchmarks.gateway.subjects import Running

# A reading ends when the subject is at rest: it took less than this share of a core for that long.
_IDLE_SHARE, _IDLE_STEP_S, _IDLE_LIMIT_S = 0.1, 0.2, 15.0


@dataclass(frozen=True, slots=True)
class Reading:
    """`cpu_us` is of the subject's processes, a request or (of streams) an event, until it is at rest again.

    What it puts off, as usage that goes to a database later, is thereby counted too. `core_share` is how much of its
    core it took under the load; `largest_bytes` is the memory of its largest process, `memory_bytes` that of all;
    `errors` is the client's count.
    """

    subject: str
    experiment: str
    round: int
    cpu_us: float
    core_share: float
    requests_per_s: float
    events_per_s: float
    p50_us: float
    p99_us: float
    first_event_p50_us: float
    memory_bytes: int
    largest_bytes: int
    errors: int
    first_error: str


@dataclass(frozen=True, slots=True)
class Bench:
    """The programs and where they run: the subject on `subject_cores`, the backend and the client on the others."""

    programs: Programs
    backend: Backend
    folder: Path
    client_cores: frozenset[int]

    def read(self, name: str, running: Running, experiment: str, load: Load, number: int = 0) -> Reading:
        """Put `load` on a subject and return the reading. A latency is an event's delay where there are events."""
        self.backend.set(answer_bytes=load.answer_bytes, events=load.events or 1, gap_us=load.gap_us)
        load = replace(load, keys=running.keys)
        before_s, began_s = _cpu_s(running), time.monotonic()
        seen = ask(self.programs, running.port, load, self.folder, self.client_cores)
        core_share = (_cpu_s(running) - before_s) / (time.monotonic() - began_s)
        took_s = _cpu_s_at_rest(running) - before_s
        served = seen.events if load.events else seen.requests
        times: Mapping[str, float] = seen.event_delay_us if load.events else seen.latency_us
        return Reading(
            subject=name,
            experiment=experiment,
            round=number,
            cpu_us=took_s / served * 1e6 if served else float("nan"),
            core_share=core_share,
            requests_per_s=seen.requests_per_s,
            events_per_s=seen.events_per_s,
            p50_us=times["p50"],
            p99_us=times["p99"],
            first_event_p50_us=seen.first_event_us["p50"],
            memory_bytes=memory_bytes(running.pid) if running.pid else 0,
            largest_bytes=largest_bytes(running.pid) if running.pid else 0,
            errors=seen.failed,
            first_error=_shortened(seen.first_error),
        )


def _shortened(error: str) -> str:
    """Return the first line of an answer and its end, where the reason stands."""
    lines = error.splitlines()
    return f"{lines[0][:200]} ... {lines[-1][-300:]}" if len(lines) > 1 else error[:500]


def _cpu_s(running: Running) -> float:
    return cpu_s(running.pid) if running.pid else 0.0


def _cpu_s_at_rest(running: Running) -> float:
    """Return the CPU time that the subject has taken once it rests; of one that never does, what it has by then."""
    deadline_s = time.monotonic() + _IDLE_LIMIT_S
    before = _cpu_s(running)
    while running.pid and time.monotonic() < deadline_s:
        time.sleep(_IDLE_STEP_S)  # the step over which rest is told
        now = _cpu_s(running)
        if now - before < _IDLE_SHARE * _IDLE_STEP_S:
            return now
        before = now
    return before
