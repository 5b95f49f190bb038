"""The servers of one model: hands them out as places, lets requests wait in line, and says when it cannot."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum

from reference_stack.services.infrastructure.api_gateway.routing.budget import Budget
from reference_stack.services.infrastructure.api_gateway.routing.choice import bounded, least_loaded
from reference_stack.services.infrastructure.api_gateway.routing.server import OK, Out, Rules, Server, Sign

_REPEATABLE = frozenset({Sign.UNREACHED, Sign.LOST, Sign.ERRED, Sign.BUSY, Sign.STALLED})


class Shed(StrEnum):
    """Why a request was turned away."""

    OUT = "out"  # no server of the model can be trusted, and enough requests try them already
    SHARE = "share"  # the model has as many requests here as one model may have
    LINE = "line"  # the servers are full, and so is the line
    WAITED = "waited"  # its time in the line is up


@dataclass(frozen=True, slots=True)
class Bounds:
    """`affinity` is how far above its share a server may be loaded for a prefix; `most` counts open and waiting."""

    affinity: float
    most: int
    line: int


@dataclass(slots=True, eq=False)
class Place:
    """A place at `server` for one request; `end` gives it back, once. `on_stalled` asks its holder to give up."""

    server: Server
    stream: bool
    trial: bool
    began_s: float
    on_stalled: Callable[[], object] = lambda: None
    ended: Sign | None = None


@dataclass(slots=True, eq=False)
class Waiter:
    """A request in line; `told` hears once what became of it, and returns whether anybody still wanted to know."""

    key: int
    stream: bool
    told: Callable[[Place | Shed], bool]


@dataclass(slots=True)
class Counts:
    """What happened since the start; that attempts ended well is counted by the servers."""

    ended: dict[tuple[str, Sign], int] = field(default_factory=dict)
    retries: int = 0
    shed: dict[Shed, int] = field(default_factory=dict)
    ejected: dict[tuple[str, Out], int] = field(default_factory=dict)

    def ended_by(self, sign: Sign) -> int:
        return sum(count for (_, each), count in self.ended.items() if each is sign)


class Pool:
    """First come, first served: nobody gets a place while another waits for one."""

    def __init__(self, servers: Sequence[Server], rules: Rules, bounds: Bounds, budget: Budget) -> None:
        self.servers = tuple(servers)
        self.counts = Counts()
        self.open = 0
        self._rules = rules
        self._bounds = bounds
        self._budget = budget
        self._line: deque[Waiter] = deque()
        self._places: dict[Server, set[Place]] = {each: set() for each in self.servers}
        self._only = self.servers[0] if len(self.servers) == 1 else None
        self._turn = 0

    @property
    def waiting(self) -> int:
        return len(self._line)

    def request(self, key: int, now_s: float, *, stream: bool) -> Place | Shed | None:
        """Return a place for a request that came in, why there is none, or None: it may wait in line."""
        self._budget.request()
        if self.open + len(self._line) >= self._bounds.most:
            return self.shed(Shed.SHARE)
        only = self._only
        if only is not None and only.well and not self._line and not only.full:
            return self._give(only, now_s, stream=stream)
        found = None if self._line else self._find(key, now_s, stream=stream)
        if found is None and len(self._line) >= self._bounds.line:
            return self.shed(Shed.LINE)
        return found

    def may_again(self, tried: Sequence[Server], sign: Sign, now_s: float) -> bool:
        """Return whether a request may be sent once more whose last attempt ended with `sign`; it costs budget.

        Another server is asked first, the same one only where it lost the connection and there is no other. A server
        that was not reached costs no budget: it got nothing, and each server is tried once.
        """
        if self._line or sign not in _REPEATABLE or not self._untried(tried, now_s):
            return False
        if len(self.servers) == 1 and (sign is not Sign.LOST or len(tried) > 1):
            return False
        if sign is not Sign.UNREACHED and not self._budget.spend():
            return False
        self.counts.retries += 1
        return True

    def another(self, tried: Sequence[Server], key: int, now_s: float, *, stream: bool) -> Place | None:
        """Return the place that `may_again` promised a moment ago."""
        others = self._untried(tried, now_s)
        return self._give(self._choose(others, key, now_s), now_s, stream=stream) if others else None

    def _untried(self, tried: Sequence[Server], now_s: float) -> list[Server]:
        if len(self.servers) == 1:
            return [each for each in self.servers if each.standing is None and not each.full]
        return [each for each in self.servers if each not in tried and each.out(now_s) is None and not each.full]

    def end(self, place: Place, ended: Sign, now_s: float, *, rest_s: float = 0.0) -> None:
        """Take a place back; a second time does nothing."""
        if place.ended is None:
            self._give_back(place, ended, now_s, rest_s)
            if self._line:
                self.pump(now_s)

    def _give_back(self, place: Place, ended: Sign, now_s: float, rest_s: float) -> None:
        place.ended = ended
        server = place.server
        self.open -= 1
        self._places[server].discard(place)
        if ended is OK and not place.trial:
            server.end(ended, now_s, stream=place.stream, trial=False)
            return
        opened = server.breaker.opened
        server.end(ended, now_s, stream=place.stream, trial=place.trial, rest_s=rest_s)
        if place.trial:
            server.breaker.end_trial()
        if server.breaker.opened > opened:
            self._ejected(server, Out.FAILING)
        if ended is not OK:
            self.counts.ended[server.name, ended] = self.counts.ended.get((server.name, ended), 0) + 1

    def wait(self, waiter: Waiter) -> None:
        self._line.append(waiter)

    def leave(self, waiter: Waiter) -> None:
        """Take a waiter out of the line, if it is there."""
        with suppress(ValueError):
            self._line.remove(waiter)

    def pump(self, now_s: float) -> None:
        """Give places to those in line, in order, as far as there are any."""
        while self._line:
            found = self._find(self._line[0].key, now_s, stream=self._line[0].stream)
            if found is None:
                return
            if not self._line.popleft().told(found) and isinstance(found, Place):
                self._give_back(found, Sign.CANCELLED, now_s, 0.0)

    def probed(self, server: Server, *, well: bool) -> None:
        """Take one answer of a server's /health into account."""
        before = server.unhealthy
        server.probed(well=well)
        if server.unhealthy and not before:
            self._ejected(server, Out.UNHEALTHY)

    def tick(self, now_s: float) -> None:
        """Eject servers that went silent, ask the holders of their places to give up, and move the line."""
        for server in self.servers:
            just = server.tick(now_s)
            if just:
                self._ejected(server, Out.STALLED)
            if server.stalled:
                for place in [each for each in self._places[server] if just or self._too_old(each, now_s)]:
                    place.on_stalled()
        self.pump(now_s)

    def _too_old(self, place: Place, now_s: float) -> bool:
        bound_s = self._rules.stalled_s if place.stream else self._rules.whole_stalled_s
        return now_s - place.began_s > bound_s

    def _find(self, key: int, now_s: float, *, stream: bool) -> Place | Shed | None:
        """Return a place, Shed.OUT, or None while every server that can be trusted is full."""
        usable = [each for each in self.servers if each.well or each.out(now_s) is None]
        if not usable:
            # The set is never empty: with none to trust, each is tried by as many as a breaker lets through.
            usable = [each for each in self.servers if each.breaker.trial_free]
            if not usable:
                return self.shed(Shed.OUT)
        free = [each for each in usable if each.max_in_flight is None or not each.full]
        return self._give(self._choose(free, key, now_s), now_s, stream=stream) if free else None

    def _choose(self, free: Sequence[Server], key: int, now_s: float) -> Server:
        if len(free) == 1:
            return free[0]
        rested = [each for each in free if each.rests_until_s <= now_s and not each.quiet] or free
        return bounded(rested, key, self._bounds.affinity) if key else least_loaded(rested)

    def _give(self, server: Server, now_s: float, *, stream: bool) -> Place:
        place = Place(server, stream, not server.well, now_s)
        if place.trial:
            server.breaker.begin_trial()
        self._turn += 1
        server.turn = self._turn
        server.begin(stream=stream)
        self.open += 1
        self._places[server].add(place)
        return place

    def shed(self, why: Shed) -> Shed:
        """Count a request that was turned away."""
        self.counts.shed[why] = self.counts.shed.get(why, 0) + 1
        return why

    def _ejected(self, server: Server, why: Out) -> None:
        self.counts.ejected[server.name, why] = self.counts.ejected.get((server.name, why), 0) + 1
