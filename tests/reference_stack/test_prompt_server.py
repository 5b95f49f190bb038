"""uvicorn without its pauses: a signal ends it at once, and what is open has its time."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from reference_stack.prompt_server import PromptServer

LONG_S = 30.0


class Slow(PromptServer):
    """Looks by itself too seldom for any test."""

    tick_s = 3600.0


class Waiting:
    """An application with one route, which answers when it is told to, and notes that it was closed."""

    def __init__(self) -> None:
        self.asked, self.answer, self.closed = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.app = Starlette(routes=[Route("/", self._wait), Route("/now", self._now)], lifespan=self._life)

    async def _wait(self, _request: Request) -> Response:
        self.asked.set()
        await self.answer.wait()
        return Response("done")

    async def _now(self, _request: Request) -> Response:
        return Response("now")

    @asynccontextmanager
    async def _life(self, _app: Starlette) -> AsyncIterator[None]:
        yield
        self.closed.set()


@asynccontextmanager
async def serving(waiting: Waiting, **settings: int) -> AsyncIterator[tuple[Slow, str]]:
    """Serve until it ends by itself, within `LONG_S`; yield the server and its URL."""
    sock = socket.create_server(("127.0.0.1", 0))
    server = Slow(uvicorn.Config(waiting.app, log_config=None, **settings))  # type: ignore[arg-type]  # by name
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    async with asyncio.timeout(LONG_S), asyncio.TaskGroup() as group:
        served = group.create_task(server.serve([sock]))
        try:
            yield server, url
        finally:
            server.should_exit = True
            async with asyncio.timeout(LONG_S):  # of its own: the outer one has passed when a server does not end
                await served


@pytest.mark.parametrize("by_signal", [True, False])
async def test_it_ends_when_it_is_told_to(*, by_signal: bool) -> None:
    """A server that looks once an hour ends at once, its idle connection and its application closed."""
    waiting = Waiting()
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))  # uvicorn raises it once more
    try:
        async with serving(waiting) as (server, url), httpx.AsyncClient(timeout=LONG_S) as client:
            assert (await client.get(f"{url}/now")).text == "now"
            if by_signal:
                os.kill(os.getpid(), signal.SIGTERM)
            else:
                server.should_exit = True
            await waiting.closed.wait()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert server.should_exit
    assert heard == [signal.SIGTERM] * by_signal


async def test_an_open_request_is_answered_first() -> None:
    """Who was asked before the end is answered, and only then is the application closed."""
    waiting = Waiting()
    async with serving(waiting) as (server, url), httpx.AsyncClient(timeout=LONG_S) as client:
        asking = asyncio.create_task(client.get(url))
        await waiting.asked.wait()
        server.should_exit = True
        while server.servers[0].is_serving():  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.001)
        assert not waiting.closed.is_set()
        waiting.answer.set()
        assert (await asking).text == "done"
        await waiting.closed.wait()


async def test_what_takes_too_long_is_cut() -> None:
    """What is not answered in its time does not keep the server."""
    waiting = Waiting()
    async with (
        serving(waiting, timeout_graceful_shutdown=0) as (server, url),
        httpx.AsyncClient(timeout=LONG_S) as client,
    ):
        asking = asyncio.create_task(client.get(url))
        await waiting.asked.wait()
        server.should_exit = True
        await waiting.closed.wait()
        waiting.answer.set()
        assert isinstance((await asyncio.gather(asking, return_exceptions=True))[0], Exception | httpx.Response)
