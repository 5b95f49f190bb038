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
_RAMP_S = 2.0


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

    Streams outlast the reading, so that a reading holds no request, only events.
    """
    bodies = {
        f"body of {size} KiB": Load(pace.connections, seconds=seconds, body_bytes=size * 1024) for size in _BODIES_KIB
    }
    events_per_s = pace.streams * 1_000_000 // _GAP_US // 2
    streams = {}
    for count in _STREAMS:
        each_per_s = events_per_s / count
        events = max(2, round(each_per_s * (_RAMP_S + seconds + 1)))
        gap_us = round(1e6 / each_per_s)
        streams[f"{count:,} streams"] = Load(count, warm_s=_RAMP_S, seconds=seconds, events=events, gap_us=gap_us)
    return {**bodies, **streams}


def loads(pace: Pace, seconds: float = 2.0) -> Mapping[str, Load]:
    """Return the four loads; `seconds` is how long each is measured."""
    return {
        CLOSED: Load(pace.connections, seconds=seconds),
        PACED: Load(pace.connections, pace.rate_rps, seconds=seconds),
        STREAMS: Load(pace.streams, warm_s=1.0, seconds=seconds, events=_EVENTS, gap_us=_GAP_US),
        FIRST_EVENT: Load(pace.connections, pace.streams_rps, seconds=seconds, events=8, gap_us=_GAP_US),
    }
