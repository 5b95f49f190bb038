"""The loads under which every gateway is read, sized by what it can take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.gateway.programs import Load

CLOSED, PACED, STREAMS, FIRST_EVENT = "as fast as answers come", "fixed rate", "streams", "first event"
LOADS = (CLOSED, PACED, STREAMS, FIRST_EVENT)
# Each stream has an event every 5 ms and lasts a second.
_GAP_US, _EVENTS = 5000, 200
_BODIES_KIB = (1, 8, 32, 128)
_STREAMS = (10, 100, 1000, 5000)
# Streams begin one after another, at what a gateway that keeps up may take.
_BEGIN_PER_S = 1000
# After so long a stream that should have ended is a failure.
_LATE_S = 10.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How much a gateway is asked to carry on one core: latencies of an overloaded one are those of its queue."""

    connections: int
    rate_rps: float
    streams: int
    streams_rps: float


# 256 streams are 51,000 events a second.
FAST = Pace(connections=64, rate_rps=1000, streams=256, streams_rps=200)
MIDDLE = Pace(connections=64, rate_rps=1000, streams=48, streams_rps=100)
SLOW = Pace(connections=4, rate_rps=5, streams=1, streams_rps=2)


def costs(pace: Pace, seconds: float = 2.0) -> Mapping[str, Load]:
    """Return the two loads whose CPU time is the figure."""
    return {name: load for name, load in loads(pace, seconds).items() if name in (CLOSED, STREAMS)}


def growth_of(pace: Pace, seconds: float = 2.0) -> Mapping[str, Load]:
    """Return loads of growing bodies, and of growing numbers of streams that make as many events in all.

    Streams outlast the reading, so that its delays are of events alone; its CPU time has all of the streams in it.
    """
    bodies = {
        f"body of {size} KiB": Load(pace.connections, seconds=seconds, body_bytes=size * 1024) for size in _BODIES_KIB
    }
    return {**bodies, **{f"{count:,} streams": streams_of(count, pace, seconds) for count in _STREAMS}}


def streams_of(count: int, pace: Pace, seconds: float) -> Load:
    """Return a load of `count` streams at once, each with its share of half the events that `pace` has."""
    each_per_s = pace.streams * 1_000_000 / _GAP_US / 2 / count
    ramp_s = max(1.0, count / _BEGIN_PER_S)
    events = max(2, round(each_per_s * (ramp_s + seconds + 1)))
    return Load(
        count,
        warm_s=ramp_s,
        seconds=seconds,
        drain_s=events / each_per_s + _LATE_S,
        events=events,
        gap_us=round(1e6 / each_per_s),
    )


def loads(pace: Pace, seconds: float = 2.0) -> Mapping[str, Load]:
    """Return the four loads; `seconds` is how long each is measured."""
    return {
        CLOSED: Load(pace.connections, seconds=seconds),
        PACED: Load(pace.connections, pace.rate_rps, seconds=seconds),
        STREAMS: Load(pace.streams, warm_s=1.0, seconds=seconds, events=_EVENTS, gap_us=_GAP_US),
        FIRST_EVENT: Load(pace.connections, pace.streams_rps, seconds=seconds, events=8, gap_us=_GAP_US),
    }
