"""The one part of routing with a clock: a request comes to it for a server, and hears which, or why there is none."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence

from reference_stack.schemas.configuration.api_gateway import ApiGatewaySettings
from reference_stack.schemas.configuration.upstream import RoutingSettings
from reference_stack.services.infrastructure.api_gateway.asked import Asked
from reference_stack.services.infrastructure.api_gateway.backend import Backend
from reference_stack.services.infrastructure.api_gateway.call import Call
from reference_stack.services.infrastructure.api_gateway.ports import Ended, in_task
from reference_stack.services.infrastructure.api_gateway.refusal import Refusal
from reference_stack.services.infrastructure.api_gateway.routing.affinity import affinity_of
from reference_stack.services.infrastructure.api_gateway.routing.budget import Budget
from reference_stack.services.infrastructure.api_gateway.routing.pool import Bounds, Place, Pool, Shed, Waiter
from reference_stack.services.infrastructure.api_gateway.routing.server import OK, Rules, Server, Sign

TICK_S = 0.1
LONGEST_STEP_S = 2 * TICK_S
_WORDS = {
    Shed.OUT: ("model_unavailable", "no server of the model answers at the moment"),
    Shed.SHARE: ("model_overloaded", "the model has as many requests here as one may have"),
    Shed.LINE: ("model_overloaded", "the model's servers are full, and so is the line before them"),
    Shed.WAITED: ("model_overloaded", "the model's servers stayed full for as long as a request may wait"),
}
_OK = Ended.OK  # looking a member up in its enum costs what choosing a server does
_SIGNS = {
    Ended.OK: Sign.OK,
    Ended.UNREACHED: Sign.UNREACHED,
    Ended.BEFORE: Sign.LOST,
    Ended.AFTER: Sign.BROKEN,
    Ended.LATE: Sign.CANCELLED,  # it answers: that it was asked for more than fits is not its fault
    Ended.CANCELLED: Sign.CANCELLED,
}


def _nothing() -> None:
    """Nobody holds the place any more."""


def sign_of(how: Ended, status: int) -> Sign:
    """Return what the end of an attempt says of the server."""
    if how is not Ended.REFUSED:
        return _SIGNS[how]
    if status in (429, 503):
        return Sign.BUSY
    return Sign.REFUSED if 400 <= status < 500 else Sign.ERRED


class Held:
    """A place at a server, as the relay holds it."""

    __slots__ = ("_call", "_clock", "_holding", "_place", "_pool", "_silent", "backend", "ear")

    def __init__(self, place: Place, backend: Backend, pool: Pool, clock: Callable[[], float], call: Call) -> None:
        self.backend = backend
        self.ear = place.server
        self._call = call
        self._place = place
        self._pool = pool
        self._clock = clock
        self._silent = self._holding = False
        place.on_stalled = self._give_up

    def _give_up(self) -> None:
        self._silent = True
        self._call.give_up()

    def held(self) -> None:
        if not self._holding and self._place.stream:  # a whole answer is read to its end, whoever waits for it
            self._holding = True
            self._place.server.waiting_for_client += 1

    def released(self) -> None:
        if self._holding:
            self._holding = False
            self._place.server.go_on()

    def end(self, how: Ended, status: int = 0, rest_s: float = 0.0) -> None:
        if self._holding:
            self.released()
        self._place.on_stalled = _nothing  # or the place and this would keep each other until the collector comes
        sign = OK if how is _OK and not self._silent else Sign.STALLED if self._silent else sign_of(how, status)
        self._pool.end(self._place, sign, self._clock(), rest_s=rest_s)


class Router:
    """Knows each model's pool; `routing.watch` looks after them."""

    def __init__(
        self,
        settings: ApiGatewaySettings,
        backends: Mapping[str, Sequence[Backend]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self._settings = settings.routing
        share = settings.routing.model_share if len(settings.upstreams) > 1 else 1.0
        most = max(math.ceil(settings.limits.in_flight * share), 1)
        self.pools: dict[str, Pool] = {}
        self._backend_of: dict[Server, Backend] = {}
        for model, upstream in settings.upstreams.items():
            rules = _rules(settings.routing)
            servers = [
                Server(each.name, weight=said.weight, max_in_flight=said.max_in_flight, rules=rules, now_s=clock())
                for each, said in zip(backends[model], upstream.servers, strict=True)
            ]
            self._backend_of.update(zip(servers, backends[model], strict=True))
            bounds = Bounds(settings.routing.affinity_bound, most, settings.routing.line)
            self.pools[model] = Pool(servers, rules, bounds, Budget(share=settings.routing.retry_share))

    def backend_of(self, server: Server) -> Backend:
        return self._backend_of[server]

    def pick(self, call: Call, asked: Asked, tried: Sequence[Backend]) -> Held | None:
        """See ports.Router."""
        pool = self.pools[asked.model]
        key = self._key(pool, call, asked)
        found: Place | Shed | None
        if tried:
            found = pool.another(self._servers(pool, tried), key, self.clock(), stream=asked.stream)
        else:
            found = pool.request(key, self.clock(), stream=asked.stream)
        return None if found is None else self._held(found, pool, call)

    async def wait(self, call: Call, asked: Asked) -> Held:
        """See ports.Router."""
        await in_task()
        pool = self.pools[asked.model]
        return self._held(await self._wait(pool, self._key(pool, call, asked), stream=asked.stream), pool, call)

    def _key(self, pool: Pool, call: Call, asked: Asked) -> int:
        """Return what ties the request to one of several servers, 0 where nothing does."""
        if len(pool.servers) == 1:
            return 0
        return affinity_of(asked.request, "" if call.key is None else call.key.tenant, call.session)

    def _held(self, found: Place | Shed, pool: Pool, call: Call) -> Held:
        if isinstance(found, Shed):
            code, message = _WORDS[found]
            raise Refusal(503, code, message, retry_after_s=1)
        return Held(found, self._backend_of[found.server], pool, self.clock, call)

    def again(self, _call: Call, asked: Asked, tried: Sequence[Backend], how: Ended, status: int) -> bool:
        """See ports.Router."""
        pool = self.pools[asked.model]
        return pool.may_again(self._servers(pool, tried), sign_of(how, status), self.clock())

    def _servers(self, pool: Pool, tried: Sequence[Backend]) -> list[Server]:
        places = {id(each) for each in tried}
        return [each for each in pool.servers if id(self._backend_of[each]) in places]

    async def _wait(self, pool: Pool, key: int, *, stream: bool) -> Place | Shed:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Place | Shed] = loop.create_future()

        def tell(found: Place | Shed) -> bool:
            if future.done():
                return False
            future.set_result(found)
            return True

        waiter = Waiter(key, stream, tell)
        pool.wait(waiter)
        # Between the question and the wait the loop went round once: a place may have become free.
        pool.pump(self.clock())
        timer = loop.call_later(self._settings.line_s, tell, Shed.WAITED)
        try:
            found = await future
        except asyncio.CancelledError:
            pool.leave(waiter)
            # The place may have come in the very moment in which the client went.
            given = None if future.cancelled() else future.result()
            if isinstance(given, Place):
                pool.end(given, Sign.CANCELLED, self.clock())
            raise
        finally:
            timer.cancel()
        if found is Shed.WAITED:
            pool.leave(waiter)
            pool.shed(found)
        return found


def _rules(said: RoutingSettings) -> Rules:
    return Rules(
        failures=said.breaker_failures,
        of=said.breaker_of,
        open_s=said.breaker_open_s,
        trials=said.breaker_trials,
        stalled_s=said.stalled_s,
        whole_stalled_s=said.whole_stalled_s,
        bad_probes=said.bad_probes,
        longest_step_s=LONGEST_STEP_S,
        longest_rest_s=said.longest_rest_s,
    )
