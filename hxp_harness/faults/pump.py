"""One direction of a proxied connection: reads, lets the toxics of the moment work, writes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Protocol

from hxp_harness.faults.toxic import Stream, Toxic

_READ_BYTES = 65536
_QUEUED_READS = 256  # bounds what a slow direction may hold in memory
_TICK_S = 0.02


class Poison(Protocol):
    """The toxics of a proxy, which change while data flows."""

    changed: asyncio.Event

    def active(self, kind: str, stream: Stream) -> Toxic | None:
        """Return the toxic of `kind` on `stream`, if there is one at the moment."""


class Pump:
    """Moves bytes from `reader` to `writer` until the end or `limit_data`; `run` returns then."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        poison: Poison,
        stream: Stream,
        draw: random.Random,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._poison = poison
        self._stream = stream
        self._draw = draw
        self._passed_bytes = 0
        self._lost: OSError | None = None
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_QUEUED_READS)

    async def run(self) -> bool:
        """Return True when the stream ended, False when a limit ended it; raise OSError when a side was lost."""
        reading = asyncio.ensure_future(self._read())
        try:
            return await self._write()
        finally:
            reading.cancel()

    async def _read(self) -> None:
        """Stamp what comes with the time at which it may leave, so that latency does not cost rate."""
        received = b"?"
        while received:
            try:
                received = await self._reader.read(_READ_BYTES)
            except OSError as error:
                self._lost = error
                received = b""
            await self._queue.put((self._loop.time() + self._delay_s(), received))

    async def _write(self) -> bool:
        while True:
            leave_s, payload = await self._queue.get()
            await asyncio.sleep(leave_s - self._loop.time())
            await self._while_stopped()
            if not payload:
                if self._lost is not None:
                    raise self._lost
                await self._close_slowly()
                return True
            for piece in self._pieces(self._corrupted(payload)):
                room = self._room()
                self._writer.write(piece[:room])
                await self._writer.drain()
                self._passed_bytes += len(piece)
                if len(piece) >= room:
                    return False
                await self._pace(len(piece))

    def _delay_s(self) -> float:
        toxic = self._poison.active("latency", self._stream)
        if toxic is None:
            return 0.0
        return max(0.0, toxic["delay_s"] + self._draw.uniform(-1, 1) * toxic["jitter_s"])

    async def _while_stopped(self) -> None:
        while self._poison.active("timeout", self._stream) is not None:
            await self._poison.changed.wait()

    async def _close_slowly(self) -> None:
        toxic = self._poison.active("slow_close", self._stream)
        if toxic is not None:
            await asyncio.sleep(toxic["delay_s"])
        if self._writer.can_write_eof() and not self._writer.is_closing():
            self._writer.write_eof()

    def _pieces(self, payload: bytes) -> Iterator[bytes]:
        """Cut `payload` as slicer and bandwidth ask; toxics are asked anew for each piece."""
        start = 0
        while start < len(payload):
            size = len(payload)
            slicer = self._poison.active("slicer", self._stream)
            if slicer is not None:
                size = max(1, round(slicer["average_bytes"] + self._draw.uniform(-1, 1) * slicer["variation_bytes"]))
            bandwidth = self._poison.active("bandwidth", self._stream)
            if bandwidth is not None:
                size = min(size, max(1, round(bandwidth["rate_bytes_per_s"] * _TICK_S)))
            yield payload[start : start + size]
            start += size

    async def _pace(self, sent_bytes: int) -> None:
        """Wait as long as the piece that was sent takes."""
        wait_s = 0.0
        slicer = self._poison.active("slicer", self._stream)
        if slicer is not None:
            wait_s = slicer["delay_s"]
        bandwidth = self._poison.active("bandwidth", self._stream)
        if bandwidth is not None:
            wait_s = max(wait_s, sent_bytes / bandwidth["rate_bytes_per_s"])
        if wait_s:
            await asyncio.sleep(wait_s)

    def _room(self) -> int:
        toxic = self._poison.active("limit_data", self._stream)
        return max(0, int(toxic["limit_bytes"]) - self._passed_bytes) if toxic is not None else 1 << 62

    def _corrupted(self, payload: bytes) -> bytes:
        toxic = self._poison.active("corrupt", self._stream)
        if toxic is None:
            return payload
        every = int(toxic["every_bytes"])
        changed = bytearray(payload)
        for place in range(every - 1 - self._passed_bytes % every, len(changed), every):
            changed[place] ^= 1
        return bytes(changed)
