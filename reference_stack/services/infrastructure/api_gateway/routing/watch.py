"""Looks after the servers: asks them how they are, ejects those that fell silent, and says so once."""

from __future__ import annotations

import asyncio
import logging
from typing import NoReturn

from reference_stack.schemas.configuration.api_gateway import ApiGatewaySettings
from reference_stack.schemas.configuration.upstream import RoutingSettings
from reference_stack.services.infrastructure.api_gateway.routing.pool import Pool
from reference_stack.services.infrastructure.api_gateway.routing.probing import HttpProber, Prober
from reference_stack.services.infrastructure.api_gateway.routing.router import TICK_S, Router
from reference_stack.services.infrastructure.api_gateway.routing.server import Out, Server

log = logging.getLogger(__name__)

# A server that is out is asked this often, so that it is back soon after it is well.
_OUT_PAUSE_S = 0.25


class Watch:
    """`run` goes on until it is cancelled; without it no server is ejected for silence or for its /health."""

    def __init__(self, router: Router, settings: RoutingSettings, prober: Prober) -> None:
        self._router = router
        self._probe_s = settings.probe_s
        self._prober = prober
        self._told: dict[Server, Out | None] = {}
        self._empty: set[str] = set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tick())
            for model, pool in self._router.pools.items():
                for server in pool.servers:
                    tasks.create_task(self._look_after(model, pool, server))

    async def _tick(self) -> NoReturn:
        while True:
            for model, pool in self._router.pools.items():
                pool.tick(self._router.clock())
                self._tell(model, pool)
            await asyncio.sleep(TICK_S)

    async def _look_after(self, model: str, pool: Pool, server: Server) -> NoReturn:
        backend = self._router.backend_of(server)
        clock = self._router.clock
        while True:
            pool.probed(server, well=await self._prober.healthy(backend))
            if server.stalled or server.breaker.half_open(clock()):
                # A hung engine's /health is well: only an answer proves something.
                status = await self._prober.answer(backend, model)
                if status is not None:
                    server.answered(status, clock())
            await asyncio.sleep(self._probe_s if server.standing is None else min(_OUT_PAUSE_S, self._probe_s))

    def _tell(self, model: str, pool: Pool) -> None:
        left, count = sum(each.standing is None for each in pool.servers), len(pool.servers)
        for server in pool.servers:
            standing = server.standing
            if standing is not self._told.get(server):
                self._told[server] = standing
                words = "in" if standing is None else f"out, {standing}"
                log.warning("model %s: server %s is %s; %d of %d in", model, server.name, words, left, count)
        if left == 0 and model not in self._empty:
            log.error("model %s has no server to trust: those that it has are tried a few at a time", model)
        (self._empty.discard if left else self._empty.add)(model)


async def keep_watch(router: Router, settings: ApiGatewaySettings) -> None:
    """Watch the servers over connections of its own until cancelled."""
    async with HttpProber(health_s=settings.health_s, answer_s=settings.routing.ask_s) as prober:
        await Watch(router, settings.routing, prober).run()
