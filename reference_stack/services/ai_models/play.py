"""Sends an answer as a script says: not before its time, and no further than its fault."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from dataclasses import dataclass

from reference_stack.schemas.configuration.script import Script
from reference_stack.services.ai_models.api_error import ApiError
from reference_stack.services.ai_models.asgi import Send
from reference_stack.services.ai_models.http_metrics import Watched
from reference_stack.services.ai_models.wire import DONE

_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: closing throws away what is unsent and resets


def engine_dead() -> ApiError:
    """Return vLLM's error when its engine has died."""
    return ApiError("EngineCore encountered an issue. See stack trace (above) for the root cause.", status=500)


class Broken(Exception):
    """The connection was broken by a fault; nothing is left to send."""


@dataclass(frozen=True, slots=True)
class Play:
    """One request under `script`. `departure` is done when the client has left."""

    script: Script
    arrival_s: float
    departure: asyncio.Future[None]

    async def ready(self, place: int | None, send: Send) -> None:
        """Return when the token at `place` may be sent (None: the end of the reply), or strike there.

        An `error` sends its event and [DONE]. Each fault ends by raising Broken: the answer goes no further.
        """
        fault = self.script.fault
        if fault is None or fault.kind == "abort" or (place is not None and place < fault.at_token):
            if place is not None:
                await self.until(place)
            return
        if fault.kind == "error":
            event = b"data: " + engine_dead().body + b"\n\n" + DONE
            await send({"type": "http.response.body", "body": event})
        elif fault.kind != "stall":
            _break(send, reset=fault.kind == "reset")
        if fault.kind != "error":
            await self.departure  # else the server would miss the rest of the answer
        raise Broken

    async def until(self, place: int) -> None:
        """Wait until the token at `place` may be sent, or the client has left."""
        due_s = self.arrival_s + self.script.first_token_s + place * self.script.token_s
        await asyncio.wait({self.departure}, timeout=max(due_s - time.monotonic(), 0))

    async def whole(self, count: int, send: Send) -> None:
        """Wait until an answer of `count` tokens may be sent without streaming, or strike instead."""
        fault = self.script.fault
        await self.until(min(count if fault is None else fault.at_token, count) - 1 if count else 0)
        if fault is not None and fault.kind == "error":
            raise engine_dead()
        await self.ready(None, send)


def _break(send: Send, *, reset: bool) -> None:
    # ASGI has no word for this: uvicorn's `send` is a method of the object that has the connection.
    inner = send.send if isinstance(send, Watched) else send
    transport = inner.__self__.transport  # type: ignore[attr-defined]  # see above
    if reset:
        # A second descriptor of the same socket: the first belongs to the loop, which may be uvloop's.
        with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        transport.abort()
    else:
        transport.close()
