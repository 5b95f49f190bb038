"""One of a model's servers as the gateway knows it: what is open on it, and whether it can be trusted with more."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from reference_stack.services.infrastructure.api_gateway.routing.breaker import Breaker
from reference_stack.services.infrastructure.api_gateway.routing.choice import seed_of


class Sign(StrEnum):
    """How an attempt at a server ended, as far as it says something about that server."""

    OK = "ok"
    UNREACHED = "unreached"  # nothing of the request was sent
    LOST = "lost"  # the connection ended, or spoke no HTTP, before the first byte of an answer
    ERRED = "erred"  # a 5xx, or an answer that is none
    BROKEN = "broken"  # the answer ended before its end
    STALLED = "stalled"  # given up by the gateway, since the server says nothing to anybody
    REFUSED = "refused"  # 4xx: the request's fault
    BUSY = "busy"  # 429 or 503: load, and no fault
    CANCELLED = "cancelled"  # by the client, or by its deadline


OK = Sign.OK  # as nearly every attempt ends; looking it up in its enum costs what judging it does


class Out(StrEnum):
    """Why a server is not trusted."""

    FAILING = "failing"  # its breaker is not closed
    STALLED = "stalled"  # it holds requests and says nothing
    UNHEALTHY = "unhealthy"  # its /health says so, or cannot be reached


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for each of a model's servers; `stalled_s` is for streams, `whole_stalled_s` for other answers.

    Of the time between two ticks no more than `longest_step_s` counts as silence: a gateway that was itself held up
    heard nothing from anybody.
    """

    failures: int
    of: int
    open_s: float
    trials: int
    stalled_s: float
    whole_stalled_s: float
    longest_step_s: float
    bad_probes: int
    longest_rest_s: float


_JUDGED = {
    Sign.OK: False,
    Sign.REFUSED: False,
    Sign.UNREACHED: True,
    Sign.LOST: True,
    Sign.ERRED: True,
    Sign.BROKEN: True,
}


_QUIET_SHARE = 0.1


class Server:
    """Its owner calls `tick` a few times a second; between ticks only `heard` is written for bytes that come.

    A server is `stalled` when it has open streams and none of its bytes came for `stalled_s`, or only answers that
    come whole and nothing for `whole_stalled_s`; /health does not matter for it. Streams that wait for a slow client
    do not count: nobody reads what such a server sends. Any byte makes it well again.
    """

    def __init__(self, name: str, *, weight: float, max_in_flight: int | None, rules: Rules, now_s: float) -> None:
        self.name = name
        self.weight = weight
        self.max_in_flight = max_in_flight
        self.seed = seed_of(name)
        self.turn = 0
        self.breaker = Breaker(failures=rules.failures, of=rules.of, open_s=rules.open_s, trials=rules.trials)
        self.in_flight = 0
        self.streams = 0
        self.waiting_for_client = 0  # of the streams
        self.heard = False  # a byte came since the last tick
        self.stalled = False
        self.well = True  # whether it is in: `standing` is None
        self.served = 0
        self.rests_until_s = now_s
        self._rules = rules
        self._silent_s = 0.0
        self._ticked_s = now_s
        self._bad_probes = 0

    @property
    def full(self) -> bool:
        return self.max_in_flight is not None and self.in_flight >= self.max_in_flight

    @property
    def quiet(self) -> bool:
        """Whether it has been silent for a tenth of what makes it stalled: then others are asked first."""
        return self._silent_s > _QUIET_SHARE * self._silence_bound_s

    @property
    def _silence_bound_s(self) -> float:
        streaming = self.streams > self.waiting_for_client
        return self._rules.stalled_s if streaming else self._rules.whole_stalled_s

    @property
    def unhealthy(self) -> bool:
        return self._bad_probes >= self._rules.bad_probes

    @property
    def standing(self) -> Out | None:
        """Why the server is out, a half-open breaker included: it is not in before it has proved itself."""
        if self.stalled:
            return Out.STALLED
        if self.unhealthy:
            return Out.UNHEALTHY
        return None if self.breaker.closed else Out.FAILING

    def out(self, now_s: float) -> Out | None:
        """Return why the server gets no request, or None: half open with a trial free it does."""
        standing = self.standing
        if standing is Out.FAILING and self.breaker.half_open(now_s) and self.breaker.trial_free:
            return None
        return standing

    def begin(self, *, stream: bool) -> None:
        """Count a request that goes to it."""
        if self.in_flight == 0 or (stream and self.streams == self.waiting_for_client):
            self._silent_s = 0.0
        self.in_flight += 1
        self.streams += stream

    def end(self, ended: Sign, now_s: float, *, stream: bool, trial: bool, rest_s: float = 0.0) -> None:
        """Take back what `begin` counted; a server that is busy rests for `rest_s`, within a bound."""
        self.in_flight -= 1
        self.streams -= stream
        if ended is OK:
            self.served += 1
            if self.well and not self.breaker.window:  # as nearly always: there is nothing to forgive
                self.heard = True
                return
        if ended is Sign.BUSY:
            self.rests_until_s = max(self.rests_until_s, now_s + min(rest_s, self._rules.longest_rest_s))
        if ended in (Sign.OK, Sign.REFUSED, Sign.BUSY):
            self._hear()
        failed = _JUDGED.get(ended)
        if failed is not None:
            self.breaker.judge(failed=failed, trial=trial, now_s=now_s)
        self._settle()

    def go_on(self) -> None:
        """A stream's client takes bytes again: from now on silence counts."""
        if self.streams == self.waiting_for_client:
            self._silent_s = 0.0
        self.waiting_for_client -= 1

    def answered(self, status: int, now_s: float) -> None:
        """It answered a request that the gateway made on its own account.

        Any answer ends a stall. 200 closes its breaker; an error keeps one open, so that no client need try.
        """
        self._hear()
        if status == 200:
            self.breaker.close()
        elif status >= 500 and status != 503 and not self.breaker.closed:
            self.breaker.judge(failed=True, trial=True, now_s=now_s)
        self._settle()

    def probed(self, *, well: bool) -> None:
        """Take one answer of its /health into account."""
        self._bad_probes = 0 if well else self._bad_probes + 1
        self._settle()

    def tick(self, now_s: float) -> bool:
        """Bring its silence up to date; return whether it has just stalled."""
        step_s, self._ticked_s = min(now_s - self._ticked_s, self._rules.longest_step_s), now_s
        if self.heard:
            self._hear()
            self._settle()
            return False
        streaming = self.streams > self.waiting_for_client
        if not streaming and self.in_flight == self.streams:
            self._silent_s = 0.0
            return False
        self._silent_s += step_s
        if self.stalled or self._silent_s <= self._silence_bound_s:
            return False
        self.stalled = True
        self._settle()
        return True

    def _settle(self) -> None:
        self.well = self.standing is None

    def _hear(self) -> None:
        self.heard = False
        self.stalled = False
        self._silent_s = 0.0
