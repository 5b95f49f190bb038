"""What a tenant pays for another's misbehaviour: the good one's p99 beside its own without neighbour, in each round.

The good tenant sends at a fixed rate. Its neighbour asks far beyond its limit, leaves as soon as it asked, or fills a
model that hangs. Client and neighbour share a core, so part of what is seen is the client's own.
"""

from __future__ import annotations

import json
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.gateway import ours
from benchmarks.gateway.figures import Readings, figure, table
from benchmarks.gateway.measure import Reading
from benchmarks.gateway.programs import CannotRun, Load, ask
from benchmarks.gateway.room import Room
from benchmarks.gateway.subjects import Running
from benchmarks.meanwhile import meanwhile
from reference_stack.schemas.api.keys import KeyLimits

# RELIABILITY: a fault of one leaves the others with no error and this much of their p99.
MOST_RATIO = 1.2
ALONE = "alone"
_HUNG_MODEL = "phi3"
_BAD_KEYS = 900_000_000
_GOOD_RPS, _STORM_RPS, _LEAVES_RPS = 300.0, 500.0, 100.0
_HELD = 200


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Who misbehaves, towards which gateway, with a key whose limit is 60 requests a minute."""

    room: Room
    running: Running
    key: bytes

    def request(self, model: str) -> bytes:
        asked = {"model": model, "messages": [{"role": "user", "content": "a"}], "max_tokens": 16}
        body = json.dumps(asked).encode()
        return (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %s\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (self.key, len(body), body)
        )

    def connected(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.running.port), timeout=10)

    @contextmanager
    def asks_beyond_its_limit(self) -> Iterator[None]:
        """500 requests a second, nearly all of them refused."""
        bench = self.room.bench
        load = Load(connections=32, rate_rps=_STORM_RPS, warm_s=0.0, seconds=0.5, keys=(self.key,))
        with tempfile.TemporaryDirectory() as folder:

            def storm(over: threading.Event) -> None:
                while not over.is_set():
                    ask(bench.programs, self.running.port, load, Path(folder))

            with meanwhile(storm):
                yield

    @contextmanager
    def leaves_at_once(self) -> Iterator[None]:
        """100 connections a second that ask and are gone."""

        def leave(over: threading.Event) -> None:
            while not over.wait(1 / _LEAVES_RPS):  # a pace, not a wait for something
                with self.connected() as sock:
                    sock.sendall(self.request("mixtral"))

        with meanwhile(leave):
            yield

    @contextmanager
    def fills_a_model_that_hangs(self) -> Iterator[None]:
        """200 requests, on connections of their own, to a model that never answers."""
        with ExitStack() as held:
            for _ in range(_HELD):
                held.enter_context(self.connected()).sendall(self.request(_HUNG_MODEL))
            yield


@contextmanager
def _hung_server() -> Iterator[int]:
    """Listen, and never answer."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        yield int(listener.getsockname()[1])


def measured(room: Room, rounds: int, seconds: float) -> Readings:
    """Return the good tenant's readings: alone and beside each neighbour in every round."""
    found: list[Reading] = []
    with _hung_server() as hung:
        changes = {"upstreams": {_HUNG_MODEL: {"base_url": f"http://127.0.0.1:{hung}/v1"}}}
        running = room.start_ours(replace(ours.FULL, changes=changes))
        if running is None:
            raise CannotRun(room.left_out[-1])
        room.backing.put_keys(ours.stored_keys(replace(ours.FULL, limits=KeyLimits(60, concurrent=500)), _BAD_KEYS))
        bad = Neighbour(room, running, ours.secrets(_BAD_KEYS, 1)[0])
        cases: Mapping[str, Callable[[], AbstractContextManager[None]]] = {
            ALONE: nullcontext,
            "a neighbour asks beyond its limit": bad.asks_beyond_its_limit,
            "a neighbour leaves as soon as it asked": bad.leaves_at_once,
            "a neighbour fills a model that hangs": bad.fills_a_model_that_hangs,
        }
        load = Load(connections=16, rate_rps=_GOOD_RPS, seconds=seconds)
        room.bench.read(ours.OURS, running, "warm", load)
        for number in range(rounds):
            for name, misbehaving in cases.items() if number % 2 == 0 else reversed(list(cases.items())):
                with misbehaving():
                    time.sleep(0.3)  # so that it is at work when the reading begins
                    found.append(room.bench.read(ours.OURS, running, name, load, number))
                room.say(f"{name}: p99 {found[-1].p99_us:.0f} us, {found[-1].errors} errors")
    return Readings(found)


def isolation_table(readings: Sequence[Reading]) -> str:
    """Return a line a neighbour: the good tenant's p99, its errors, and the ratio to its own round alone."""
    alone = {each.round: each.p99_us for each in readings if each.experiment == ALONE}
    rows = []
    for name in dict.fromkeys(each.experiment for each in readings):
        own = [each for each in readings if each.experiment == name]
        ratios = [each.p99_us / alone[each.round] for each in own]
        met = "" if name == ALONE else "met" if statistics.median(ratios) <= MOST_RATIO else "missed"
        errors = sum(each.errors for each in own)
        p99_ms = figure([each.p99_us / 1000 for each in own]).shown(2)
        rows.append((name, p99_ms, str(errors), figure(ratios).shown(2), f"<= {MOST_RATIO}" if met else "", met))
    return table(("the other tenant", "p99 ms", "errors", "p99, of alone", "demanded", ""), rows)
