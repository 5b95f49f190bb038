"""Which of several servers takes a request: the one its prefix belongs to, unless that has more than its share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from hashlib import blake2b
from typing import Protocol, TypeVar

_MASK = (1 << 64) - 1


class Loaded(Protocol):
    """A server as the choice sees it; `seed` is 64 bits of its own, `turn` when it was last chosen."""

    @property
    def in_flight(self) -> int: ...
    @property
    def weight(self) -> float: ...
    @property
    def seed(self) -> int: ...
    @property
    def turn(self) -> int: ...


L = TypeVar("L", bound=Loaded)


def seed_of(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest())


def least_loaded(servers: Sequence[L]) -> L:
    """Return the server with the fewest requests for its weight; among equals, the one chosen longest ago."""
    return min(servers, key=lambda each: ((each.in_flight + 1) / each.weight, each.turn))


def bounded(servers: Sequence[L], key: int, bound: float) -> L:
    """Return the server that `key` belongs to, or the next in its order where that is at its bound.

    The order is weighted rendezvous hashing (Thaler and Ravishankar 1998; weights after Schindelhauer and Schomaker
    2005): a server that leaves moves its own keys alone. The bound is that of consistent hashing with bounded loads
    (Mirrokni, Thorup and Zadimoghaddam 2018): no server takes more than `bound` (>= 1) times its share of the requests
    in flight, this one included. The bounds add up to more than the requests, so one server is always below its own.
    """
    in_flight, weights = 1, 0.0
    for each in servers:
        in_flight += each.in_flight
        weights += each.weight
    share = bound * in_flight / weights
    # Whole numbers, so that "below its share, rounded up" is "below its share".
    free = [each for each in servers if each.in_flight < share * each.weight]
    return max(free, key=lambda each: _score(each, key)) if len(free) > 1 else free[0]


def _score(server: Loaded, key: int) -> float:
    mixed = (key ^ server.seed) * 0x9E3779B97F4A7C15 & _MASK
    mixed = (mixed ^ mixed >> 32) * 0xD6E8FEB86659FD93 & _MASK
    unit = (((mixed ^ mixed >> 32) >> 12) + 0.5) / (1 << 52)  # in (0, 1), neither end included
    return -server.weight / math.log(unit)
