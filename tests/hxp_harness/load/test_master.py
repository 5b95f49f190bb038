"""The master's decisions, with workers and a clock of the test's making."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hxp_harness.load.build import own_build
from hxp_harness.load.folder import LoadFolder
from hxp_harness.load.master import EXCHANGES, LEAD_S, LOST_S, PIECE_DUES, Master
from hxp_harness.load.plan import Due, LoadPlan, LoadSummary
from hxp_harness.load.schedule import write_schedule
from hxp_harness.load.trace_file import encode, read_traces
from hxp_harness.trace import Trace

S = 1_000_000_000
SHIFT_NS = 7 * S
TRIP_NS = 100_000


def summary(due: int) -> LoadSummary:
    return LoadSummary(1.0, 2.0, due, due, "kernel", 0.0, 0.5, 1000, stopped_early=False)


@dataclass
class World:
    """A master whose workers answer at once, as far as a test does not say otherwise."""

    folder: LoadFolder
    expected: int = 2
    now_ns: int = 100 * S
    said: list[Mapping[str, Any]] = field(default_factory=list)
    sent: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    silent: set[str] = field(default_factory=set)
    shifted: set[str] = field(default_factory=set)
    parts: dict[str, list[Due]] = field(default_factory=dict)
    plans: dict[str, LoadPlan] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.master = Master(
            self._send, self.said.append, lambda: self.now_ns, expected=self.expected, build=own_build(), clock="here"
        )

    def _send(self, worker: str, message: Mapping[str, Any]) -> None:
        self.sent.append((worker, message))
        if worker not in self.silent:
            self.answer(worker, message)

    def answer(self, worker: str, message: Mapping[str, Any]) -> None:
        if message["kind"] == "ping":
            self.now_ns += TRIP_NS
            shift_ns = SHIFT_NS if worker in self.shifted else 0
            pong = {"kind": "pong", "number": message["number"], "ns": self.now_ns + shift_ns}
            self.now_ns += TRIP_NS
            self.master.hear(worker, pong)
        elif message["kind"] == "load":
            self.plans[worker] = msgspec.json.decode(message["plan"], type=LoadPlan)
            self.parts[worker] = []
        elif message["kind"] == "schedule" and message["lines"]:
            self.parts[worker] += msgspec.json.Decoder(Due).decode_lines(message["lines"])
            self.master.hear(worker, {"kind": "took"})
        elif message["kind"] == "schedule":
            self.master.hear(worker, {"kind": "ready"})
        elif message["kind"] == "stop":
            self.done(worker)

    def join(self, name: str, **changes: Any) -> str:
        hello = {"kind": "hello", "name": name, "clients": 1, "cores": 2, "build": own_build(), "clock": "here"}
        self.master.hear(f"id-{name}", hello | changes)
        return f"id-{name}"

    def load(self, count: int, concurrency: int = 0) -> None:
        self.folder.write_plan(LoadPlan("http://h/v1", "m", "chat", True, 1.0, concurrency=concurrency))
        write_schedule(self.folder.schedule, [Due(index, 0, index * 0.001, 8, 4, index) for index in range(count)])
        self.master.load(self.folder)
        self.master.tick()

    def bring(self, worker: str, count: int) -> None:
        traces = [Trace(due.index, 0, due.intended_s, 8, 4, end_s=1.0) for due in self.parts[worker][:count]]
        self.master.hear(worker, {"kind": "traces", "lines": b"".join(map(encode, traces))})

    def done(self, worker: str, error: str = "") -> None:
        part = [] if error else [msgspec.json.encode(summary(len(self.parts.get(worker, []))))]
        self.master.hear(worker, {"kind": "done", "parts": part, "error": error})

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.1)):
            self.now_ns += S // 10
            self.master.tick()

    def told(self, kind: str) -> list[tuple[str, Mapping[str, Any]]]:
        return [(worker, message) for worker, message in self.sent if message["kind"] == kind]

    @property
    def ended(self) -> Mapping[str, Any] | None:
        return next((event for event in self.said if "ended" in event), None)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(LoadFolder(tmp_path))


def test_a_load_from_two_workers(world: World) -> None:
    """Each gets its part in pieces, both the same t0 on their own clocks; traces and summaries come together."""
    a, b = world.join("a"), world.join("b", clock="elsewhere", clients=2)
    world.shifted.add(b)
    world.load(2 * PIECE_DUES)
    gone = dict(world.told("go"))
    offset_ns = gone[b]["t0_ns"] - gone[a]["t0_ns"]
    assert abs(offset_ns - SHIFT_NS) <= TRIP_NS
    assert gone[a]["t0_ns"] - world.now_ns <= LEAD_S * S
    assert world.master.sending
    assert len(world.parts[b]) == pytest.approx(2 * len(world.parts[a]), abs=3)
    assert sorted(due.index for part in world.parts.values() for due in part) == list(range(2 * PIECE_DUES))
    assert len([worker for worker, message in world.told("ping") if worker == b]) >= EXCHANGES
    for worker in (a, b):
        world.bring(worker, 10**6)
        world.done(worker)
    world.master.tick()
    assert world.ended == {"ended": True, "why": ""}
    assert len(list(read_traces(world.folder.traces))) == 2 * PIECE_DUES
    found = world.folder.read_summary()
    assert found.due == 2 * PIECE_DUES
    assert found.t0_monotonic_s == gone[a]["t0_ns"] / S
    assert [client.host for client in found.clients] == ["a", "b"]
    assert [(host.name, host.requests == host.traced, host.lost) for host in found.hosts] == [
        ("a", True, ""),
        ("b", True, ""),
    ]
    assert found.hosts[0].uncertainty_s == 0
    assert abs(found.hosts[1].offset_s - SHIFT_NS / S) <= found.hosts[1].uncertainty_s == found.clock_uncertainty_s
    assert not world.master.sending


def test_slots_of_a_closed_loop_are_shared(world: World) -> None:
    """Three slots of two workers are one for the one and two for the other."""
    world.join("a")
    world.join("b")
    world.load(9, concurrency=3)
    assert sorted((world.plans[who].concurrency, len(world.parts[who])) for who in world.plans) == [(1, 3), (2, 6)]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"build": own_build() | {"hxp": "0.1"}}, "worker b has hxp 0.1 instead of 3."),
        ({"build": own_build() | {"Python": "2.7"}}, "worker b has Python 2.7 instead of 3."),
        ({"build": {}}, "load engine unknown instead of"),
    ],
)
def test_an_unlike_worker_is_refused(world: World, changes: dict[str, Any], why: str) -> None:
    """Another version, Python or source: both sides are told which, and the worker gets no load."""
    world.join("a")
    b = world.join("b", **changes)
    assert next(event["refused"] for event in world.said if "refused" in event).startswith("worker b has")
    ((worker, refusal),) = world.told("refused")
    assert worker == b
    assert why in refusal["why"]
    world.load(4)
    assert set(world.parts) == {"id-a"}


def test_one_too_many_is_refused(world: World) -> None:
    """The crew that was asked for is the crew; who says hello twice is still one; names are told apart."""
    for name in ("a", "a"):
        world.join(name)
    world.master.hear(
        "other", {"kind": "hello", "name": "a", "clients": 1, "cores": 2, "build": own_build(), "clock": ""}
    )
    world.join("c")
    assert [event["joined"]["name"] for event in world.said if "joined" in event] == ["a", "a-2"]
    assert [event["refused"] for event in world.said if "refused" in event] == [
        "worker c is one too many: --hosts 2, and all have joined"
    ]


@pytest.mark.parametrize("how", ["silent", "leaves"])
def test_a_lost_worker_ends_the_load_and_is_named(world: World, how: str) -> None:
    """The others stop; the summary says which was lost, what it had and brought, and counts its requests as due."""
    a, b = world.join("a"), world.join("b")
    world.load(2000)
    world.bring(a, 300)
    if how == "leaves":
        world.master.hear(b, {"kind": "leave", "why": "stopped by hand"})
        world.master.tick()
    else:
        world.silent.add(b)
        world.wait(LOST_S + 1)
    assert [worker for worker, _ in world.told("stop")] == [a]
    assert world.ended == {"ended": True, "why": ""}
    found = world.folder.read_summary()
    (sentence,) = found.lost
    assert sentence.startswith("worker b was lost (")
    assert "it had 1000 requests, and 0 traces of them came back" in sentence
    assert found.due == (2000 if how == "silent" else 1000)
    world.said.clear()
    world.load(10)
    assert world.ended is not None
    assert "worker b was lost" in world.ended["why"]
    world.bring(b, 1)  # what a lost worker still says is not heard
    assert len(list(read_traces(world.folder.traces))) == 300


def test_a_stop_before_the_start_sends_nothing(world: World) -> None:
    """Stopped while workers prepare, the load ends with nothing due."""
    a, b = world.join("a"), world.join("b")
    world.silent |= {a, b}
    world.load(10)
    world.master.stop()
    world.master.stop()
    for worker in (a, b):
        world.master.hear(worker, {"kind": "done", "parts": [], "error": ""})
    world.master.tick()
    assert len(world.told("stop")) == 2
    assert world.told("go") == []
    found = world.folder.read_summary()
    assert (found.due, found.stopped_early, found.lost) == (0, True, ())


def test_a_failed_client_fails_the_load(world: World) -> None:
    """What a worker could not do is said with its name, and the others stop."""
    world.join("a")
    b = world.join("b")
    world.load(10)
    world.done(b, error="no such host")
    world.master.tick()
    assert world.ended == {"ended": False, "why": "worker b: no such host"}


def test_traces_that_cannot_be_written_fail_the_load(world: World) -> None:
    """A full disk at the master is said, not swallowed."""
    a, _ = world.join("a"), world.join("b")
    world.folder.traces.symlink_to("/dev/full")
    world.load(10)
    world.bring(a, 3)
    world.master.tick()
    assert world.ended is not None
    assert "the traces cannot be written: No space left" in world.ended["why"]


def test_nobody_can_send_nothing(world: World) -> None:
    """A load without workers ends at once; strange words and strangers are not heard."""
    world.master.stop()
    world.load(10)
    assert world.ended == {"ended": False, "why": "no worker has joined"}
    a = world.join("a")
    for who, kind in ((a, "sing"), ("stranger", "ready"), (a, "traces")):
        world.master.hear(who, {"kind": kind, "lines": b""})
    world.master.hear(a, {"kind": "pong", "number": 10**6, "ns": 0})
    world.master.close()
    assert world.told("over") == [(a, {"kind": "over"})]
