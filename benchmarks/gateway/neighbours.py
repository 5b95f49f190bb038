"""Tenants that misbehave: one asks far beyond its limit, one leaves as soon as it asked, one fills a hung model."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gateway.programs import Load, Programs, ask

HUNG_MODEL = "phi3"
_STORM_RPS, _LEAVES_RPS, _HELD = 500.0, 100.0, 200


@dataclass(slots=True)
class Neighbour:
    """Misbehaves towards `port` with `key`, on `cores`; `events` counts what it did in `active_s`.

    It must not run on the gateway's core, or what it takes of it would pass for the gateway's doing.
    """

    programs: Programs
    cores: frozenset[int]
    port: int
    key: bytes
    events: int = 0
    active_s: float = 0.0

    @property
    def kinds(self) -> dict[str, Callable[[], AbstractContextManager[None]]]:
        return {
            "asks beyond its limit": self.asks_beyond_its_limit,
            "leaves as soon as it asked": self.leaves_at_once,
            "fills a model that hangs": self.fills_a_model_that_hangs,
        }

    @contextmanager
    def asks_beyond_its_limit(self) -> Iterator[None]:
        """500 requests a second, nearly all of them refused where there is a limit."""
        load = Load(connections=32, rate_rps=_STORM_RPS, warm_s=0.0, seconds=0.5, keys=(self.key,))
        with tempfile.TemporaryDirectory() as folder:

            def storm(over: threading.Event) -> None:
                while not over.is_set():
                    seen = ask(self.programs, self.port, load, Path(folder), self.cores)
                    self.events += seen.requests + seen.failed

            yield from self._meanwhile(storm)

    @contextmanager
    def leaves_at_once(self) -> Iterator[None]:
        """100 connections a second that ask and are gone."""

        def leave(over: threading.Event) -> None:
            while not over.wait(1 / _LEAVES_RPS):  # a pace, not a wait for something
                with self._connected() as sock:
                    sock.sendall(self._request("mixtral"))
                self.events += 1

        yield from self._meanwhile(leave)

    @contextmanager
    def fills_a_model_that_hangs(self) -> Iterator[None]:
        """200 requests, on connections of their own, to a model that never answers."""
        with ExitStack() as held:
            for _ in range(_HELD):
                held.enter_context(self._connected()).sendall(self._request(HUNG_MODEL))
            yield

    def _request(self, model: str) -> bytes:
        asked = {"model": model, "messages": [{"role": "user", "content": "a"}], "max_tokens": 16}
        body = json.dumps(asked).encode()
        return (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %s\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (self.key, len(body), body)
        )

    def _connected(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def _meanwhile(self, work: Callable[[threading.Event], None]) -> Iterator[None]:
        over = threading.Event()

        def on_its_cores() -> None:
            os.sched_setaffinity(0, self.cores)  # of this thread alone, and of what it starts
            began_s = time.monotonic()
            work(over)
            self.active_s += time.monotonic() - began_s

        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(on_its_cores)
            try:
                yield
            finally:
                over.set()
            done.result()


@contextmanager
def hung_server(cores: frozenset[int]) -> Iterator[int]:
    """Take connections and what comes over them, on `cores`, and never answer."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(asyncio.Protocol, "127.0.0.1", 0, backlog=1024))

    def run() -> None:
        os.sched_setaffinity(0, cores)
        loop.run_forever()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.close()
