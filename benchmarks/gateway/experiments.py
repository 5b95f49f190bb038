"""The loads under which every gateway is read, sized by what it can take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.gateway.programs import Load

CLOSED, PACED, STREAMS, FIRST_EVENT = "as fast as answers come", "fixed rate", "streams", "first event"
# Each stream has an event every 5 ms and lasts a second.
_GAP_US, _EVENTS = 5000, 200


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


def loads(pace: Pace, seconds: float = 2.0) -> Mapping[str, Load]:
    """Return the four loads; `seconds` is how long each is measured."""
    return {
        CLOSED: Load(pace.connections, seconds=seconds),
        PACED: Load(pace.connections, pace.rate_rps, seconds=seconds),
        STREAMS: Load(pace.streams, warm_s=1.0, seconds=seconds, events=_EVENTS, gap_us=_GAP_US),
        FIRST_EVENT: Load(pace.connections, pace.streams_rps, seconds=seconds, events=8, gap_us=_GAP_US),
    }
