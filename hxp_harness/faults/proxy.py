"""A TCP proxy in front of anything, poisoned and healed while it runs."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from hxp_harness.errors import NotReady
from hxp_harness.faults.background import Background
from hxp_harness.faults.listener import Listener, closed
from hxp_harness.faults.pump import Pump
from hxp_harness.faults.toxic import Stream, Toxic, make_toxic

_LINGER_RESET = struct.pack("ii", 1, 0)


class Proxy:
    """Forwards a free port of 127.0.0.1 to `upstream` (host, port). `seed` makes jitter and slice sizes.

    A context manager; every method may be called from plain synchronous code.
    """

    def __init__(self, upstream: tuple[str, int], *, seed: int = 0) -> None:
        self._upstream = upstream
        self._background = Background()
        self._site = _Site(upstream, random.Random(seed))  # noqa: S311 - sizes and delays, no secret
        self.port = 0

    def __enter__(self) -> Self:
        self._background.__enter__()
        self.port = self._background.run(self._site.open())
        return self

    def __exit__(self, *_: object) -> None:
        self._background.run(self._site.close())
        self._background.__exit__()

    @property
    def address(self) -> tuple[str, int]:
        """Return where clients connect."""
        return "127.0.0.1", self.port

    @property
    def connections(self) -> int:
        """Return how many client connections are open."""
        return len(self._site.links)

    def add(self, kind: str, *, stream: Stream = "downstream", **attributes: float) -> Toxic:
        """Poison every connection, open ones included, until `remove`; raise UsageError for what makes no sense."""
        toxic = make_toxic(kind, stream, attributes)
        self._background.run(self._site.add(toxic))
        return toxic

    def remove(self, toxic: Toxic) -> None:
        """Heal what `add` did."""
        self._background.run(self._site.remove(toxic))

    @contextmanager
    def toxic(self, kind: str, *, stream: Stream = "downstream", **attributes: float) -> Iterator[Toxic]:
        """Poison every connection while the context lasts."""
        toxic = self.add(kind, stream=stream, **attributes)
        try:
            yield toxic
        finally:
            self.remove(toxic)


class _Site:
    """What lives in the loop: the listener, the links and the toxics."""

    def __init__(self, upstream: tuple[str, int], draw: random.Random) -> None:
        self.links: set[_Link] = set()
        self.changed = asyncio.Event()
        self._upstream = upstream
        self._draw = draw
        self._toxics: list[Toxic] = []
        self._listener = Listener(self._serve)
        self._port = 0
        self._held: socket.socket | None = None  # keeps the port ours while nobody listens

    async def open(self) -> int:
        """Listen; return the port."""
        sock = self._bind() if self._held is None else self._held
        self._held = None
        self._port = await self._listener.open(sock)
        return self._port

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._held is not None:
            self._held.close()
            self._held = None
        for link in list(self.links):
            link.reset()
        await self._listener.close()

    def active(self, kind: str, stream: Stream) -> Toxic | None:
        """Return the toxic that was added last."""
        return next((each for each in reversed(self._toxics) if (each.kind, each.stream) == (kind, stream)), None)

    async def add(self, toxic: Toxic) -> None:
        """Put `toxic` to work."""
        self._toxics.append(toxic)
        if toxic.kind == "down":
            await self.close()
            self._held = self._bind()
        for link in list(self.links):
            link.end_by(toxic)
        self._wake()

    async def remove(self, toxic: Toxic) -> None:
        """Take `toxic` away."""
        self._toxics.remove(toxic)
        for link in list(self.links):
            link.spare_from(toxic)
        if self._held is not None and not any(each.kind == "down" for each in self._toxics):
            await self.open()
        self._wake()

    def _wake(self) -> None:
        self.changed.set()
        self.changed.clear()

    def _bind(self) -> socket.socket:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", self._port))
        except OSError as error:
            sock.close()
            raise NotReady(f"the proxy cannot have port {self._port} of 127.0.0.1: {error.strerror}") from None
        return sock

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(reader, writer)
        self.links.add(link)
        for toxic in self._toxics:
            link.end_by(toxic)
        try:
            await link.run(self, self._upstream, self._draw)
        finally:
            self.links.discard(link)


class _Link:
    """One client's connection and the one to the server that belongs to it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writers = [writer]
        self._timers: dict[Toxic, asyncio.TimerHandle] = {}
        self._task = asyncio.current_task()

    async def run(self, site: _Site, upstream: tuple[str, int], draw: random.Random) -> None:
        """Move bytes both ways until both directions ended; pass on a loss as a reset."""
        pumps: set[asyncio.Task[bool]] = set()
        try:
            reader, writer = await asyncio.open_connection(*upstream)
            self._writers.append(writer)
            up = Pump(self._reader, writer, site, "upstream", draw)
            down = Pump(reader, self._writers[0], site, "downstream", draw)
            pumps = {asyncio.ensure_future(up.run()), asyncio.ensure_future(down.run())}
            whole = True
            while pumps and whole:
                done, pumps = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                ends = [task.result() for task in done]  # each one, or its exception would be reported as lost
                whole = all(ends)
        except OSError:
            self._abort()
        finally:
            for task in pumps:
                task.cancel()
            for timer in self._timers.values():
                timer.cancel()
            await asyncio.gather(*map(closed, self._writers))

    def end_by(self, toxic: Toxic) -> None:
        """Start the clock of a toxic that ends connections."""
        ends = {"reset_peer": self.reset, "timeout": self._drop}
        if toxic.kind == "reset_peer" or (toxic.kind == "timeout" and toxic["timeout_s"]):
            loop = asyncio.get_running_loop()
            self._timers[toxic] = loop.call_later(toxic["timeout_s"], ends[toxic.kind])

    def spare_from(self, toxic: Toxic) -> None:
        """Stop the clock of a toxic that was taken away."""
        timer = self._timers.pop(toxic, None)
        if timer is not None:
            timer.cancel()

    def reset(self) -> None:
        """End both connections with a reset."""
        self._abort()
        self._drop()

    def _drop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _abort(self) -> None:
        for writer in self._writers:
            sock = writer.get_extra_info("socket")
            if sock is not None and sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
            writer.transport.abort()
