"""A scripted bad upstream: an OpenAI-shaped server that misbehaves by name, and keeps the backend's ledger."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from typing import Self

from hxp_harness.errors import UsageError, nearest
from hxp_harness.faults.background import Background
from hxp_harness.faults.behaviours import BEHAVIOURS, Act, Ask, whole
from hxp_harness.faults.ledger import BackendRow, proof_of
from hxp_harness.faults.listener import Listener

HEADER = "x-hxp-fault"  # a request's own behaviour
_MARK = re.compile(rb"hxp-id:([\w-]+) hxp-nonce:([\w-]+)")
_MAX_TOKENS = 100_000


def mark(request_id: str, nonce: str) -> str:
    """Return words for a prompt that tell the backend which request it answers, whatever lies between."""
    return f"hxp-id:{request_id} hxp-nonce:{nonce}"


class Backend:
    """Serves on a free port of 127.0.0.1 while its context lasts; `behave` changes what it does from then on.

    `model` is the only model. `key` makes the proof of a nonce (see `ledger.proof_of`), which is the first word of
    each answer. `tick_s` is the pause of slow behaviours.
    """

    def __init__(
        self, behaviour: str = "healthy", *, model: str = "scripted", key: bytes = b"scripted", tick_s: float = 1.0
    ) -> None:
        self.behaviour = _known(behaviour)
        self.model = model
        self.key = key
        self.port = 0
        self._tick_s = tick_s
        self._background = Background()
        self._numbers = itertools.count()
        self._attempts: Counter[str] = Counter()
        self._rows: list[BackendRow] = []
        self._listener = Listener(self._serve)

    def __enter__(self) -> Self:
        self._background.__enter__()
        self.port = self._background.run(self._listener.open(limit=64 << 20))
        return self

    def __exit__(self, *_: object) -> None:
        self._background.run(self._listener.close())
        self._background.__exit__()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def behave(self, behaviour: str) -> None:
        """Do `behaviour` to every later request; raise UsageError for an unknown one."""
        self.behaviour = _known(behaviour)

    @property
    def begun(self) -> int:
        """Return how many attempts have come, those included that have not ended."""
        return self._background.call(self._attempts.total)

    def ledger(self) -> list[BackendRow]:
        """Return one row for each attempt that has ended."""
        return self._background.call(lambda: list(self._rows))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = _Wire(reader, writer)
        try:
            while await self._answer(wire):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client went: the ledger has it

    async def _answer(self, wire: _Wire) -> bool:
        """Answer one request; return whether the connection is good for another."""
        path, headers, body = await wire.request()
        if not path.endswith("completions"):
            row = {"id": self.model, "object": "model", "created": 1, "owned_by": "scripted"}
            return await wire.play(iter([Act(whole(200, {"object": "list", "data": [row]}))])) == "end"
        marked = _MARK.search(body)
        number = next(self._numbers)
        request_id = marked[1].decode() if marked else headers.get("x-request-id", f"request-{number}")
        self._attempts[request_id] += 1
        attempt = self._attempts[request_id]
        ask = self._ask(body, marked[2].decode() if marked else "", number)
        ended = await wire.play(BEHAVIOURS[_known(headers.get(HEADER, self.behaviour))](ask))
        abort_s = wire.abort_seen_s if ended == "left" else None
        self._rows.append(BackendRow(request_id, attempt, wire.tokens, ended == "end", abort_s))
        return ended == "end"

    def _ask(self, body: bytes, nonce: str, number: int) -> Ask:
        try:
            said = json.loads(body)
        except ValueError:
            said = {}
        fields = said if isinstance(said, dict) else {}
        asked = fields.get("max_completion_tokens") or fields.get("max_tokens")
        tokens = min(asked, _MAX_TOKENS) if isinstance(asked, int) and asked > 0 else 8
        return Ask(
            model=self.model,
            stream=fields.get("stream") is True,
            tokens=tokens,
            proof=proof_of(nonce, self.key),
            number=number,
            tick_s=self._tick_s,
        )


class _Wire:
    """One connection: reads requests, does acts, and sees at any time when the client leaves."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._early = b""  # of the next request, which came before this answer ended
        self._loop = asyncio.get_running_loop()
        self.tokens = 0  # of the answer that is played
        self.abort_seen_s: float = 0.0  # after its last write

    async def request(self) -> tuple[str, dict[str, str], bytes]:
        """Return path, headers (lower case) and body of the next request."""
        early, self._early = self._early, b""
        lines = (early + await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:-2])}
        body = await self._reader.readexactly(int(headers.get("content-length", 0)))
        return lines[0].split(" ")[1], headers, body

    async def play(self, acts: Iterator[Act]) -> str:
        """Do `acts`; return end, close, reset, or left when the client went before."""
        self.tokens, self.abort_seen_s = 0, 0.0
        gone = asyncio.ensure_future(self._reader.read(1))
        try:
            act = next(acts, None)
            while act is not None:
                if act.payload:
                    self._writer.write(act.payload)
                    await self._writer.drain()
                self.tokens += act.tokens
                written_s = self._loop.time()
                if act.then in {"close", "reset"}:
                    self._end(act.then)
                    return act.then
                following = next(acts, None)
                hangs = act.then == "hang"
                if following is None and not hangs:
                    return "end"  # a client that leaves with its whole answer did not leave early
                if await self._left(gone, None if hangs else act.pause_s):
                    self.abort_seen_s = self._loop.time() - written_s
                    return "left"
                act = following
        except OSError:
            return "left"
        finally:
            gone.cancel()
            await asyncio.wait([gone])  # only one may read at a time
            if not gone.cancelled() and gone.exception() is None:
                self._early = gone.result()
        return "end"

    async def _left(self, gone: asyncio.Future[bytes], wait_s: float | None) -> bool:
        """Return whether the client leaves within `wait_s`, None for ever."""
        await asyncio.wait([gone], timeout=wait_s)
        return gone.done() and not gone.result()  # raises what the connection raised

    def _end(self, then: str) -> None:
        if then == "reset":
            sock = self._writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._writer.transport.abort()


def _known(behaviour: str) -> str:
    if behaviour not in BEHAVIOURS:
        raise UsageError(f"no behaviour {behaviour!r}", hint=nearest(behaviour, BEHAVIOURS))
    return behaviour
