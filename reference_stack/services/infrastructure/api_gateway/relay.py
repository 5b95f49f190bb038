"""Relays one request to its model and the answer back: whole, or as a stream while it comes."""

from __future__ import annotations

import asyncio
import logging

import aiohttp
from starlette.types import Receive, Scope, Send

from reference_stack.schemas.configuration.api_gateway import ApiGatewaySettings
from reference_stack.services.infrastructure.api_gateway.asked import Asked, Reader
from reference_stack.services.infrastructure.api_gateway.body import read_body, refuse_type
from reference_stack.services.infrastructure.api_gateway.call import Call, call_of
from reference_stack.services.infrastructure.api_gateway.events import read_answer
from reference_stack.services.infrastructure.api_gateway.measures import Measures
from reference_stack.services.infrastructure.api_gateway.passage import Passage, State
from reference_stack.services.infrastructure.api_gateway.presence import ClientGone, while_present
from reference_stack.services.infrastructure.api_gateway.refusal import (
    JSON,
    Refusal,
    bad_upstream,
    overloaded,
    upstream_timeout,
)
from reference_stack.services.infrastructure.api_gateway.upstream import Upstreams, refusal_from, told_of_loss
from reference_stack.services.infrastructure.api_gateway.usage import UsageLog

log = logging.getLogger(__name__)

# How long a client that reads nothing is waited for to take the last event of a stream that failed.
_LAST_WORD_S = 0.5
# Behind [DONE] there is nothing but the end; waiting for it keeps the connection for the next request.
_AFTER_DONE_S = 0.2


class Relay:
    """Everything that the two completion routes share."""

    def __init__(self, settings: ApiGatewaySettings, upstreams: Upstreams, usage: UsageLog, measures: Measures) -> None:
        self._limits = settings.limits
        self._timeout_s = settings.timeout_s
        self._reader = Reader(settings.limits, frozenset(settings.upstreams))
        self._upstreams = upstreams
        self._usage = usage
        self._measures = measures
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one authenticated request. Raises Refusal while nothing was sent, and ClientGone."""
        call = call_of(scope)
        if self._in_flight >= self._limits.in_flight:
            raise overloaded("the gateway has as many requests in flight as it takes")
        self._in_flight += 1
        self._measures.in_flight.set(self._in_flight)
        try:
            asked = await self._asked(scope, receive, call)
            await self._relay(asked, receive, send, call)
        finally:
            self._in_flight -= 1
            self._measures.in_flight.set(self._in_flight)

    async def _asked(self, scope: Scope, receive: Receive, call: Call) -> Asked:
        headers = scope["headers"]
        kind = next((value for name, value in headers if name == b"content-type"), b"")
        if kind.partition(b";")[0].strip().lower() != b"application/json":
            refuse_type()
        body = await read_body(headers, receive, self._limits)
        assert call.key is not None  # noqa: S101 - the route is behind authentication
        asked = self._reader.read(call.route, body, call.key)
        call.model = asked.model
        call.stream = asked.stream
        if self._usage.full:
            raise overloaded("usage cannot be written down at the moment")
        return asked

    async def _relay(self, asked: Asked, receive: Receive, send: Send, call: Call) -> None:
        call.outcome = "failed"
        try:
            async with while_present(receive) as call.stop_watching, asyncio.timeout(self._timeout_s):
                await self._exchange(asked, send, call)
        except ClientGone:
            call.outcome = "cancelled"
            raise
        except TimeoutError:
            await self._break_off(upstream_timeout(), send, call)
        except (aiohttp.ClientError, OSError) as error:
            log.info("request %s: model %s: %s", call.id, call.model, type(error).__name__)
            await self._break_off(bad_upstream(), send, call)
        except Refusal as refusal:
            await self._break_off(refusal, send, call)

    async def _exchange(self, asked: Asked, send: Send, call: Call) -> None:
        async with self._upstreams.post(asked.model, call.route, asked.body, call.id) as reply:
            with told_of_loss(reply):
                if reply.status != 200:
                    raise await refusal_from(reply)
                if asked.stream:
                    await self._stream(asked, reply, send, call)
                else:
                    await self._whole(reply, send, call)

    async def _whole(self, reply: aiohttp.ClientResponse, send: Send, call: Call) -> None:
        parts: list[bytes] = []
        size = 0
        async for part in reply.content.iter_any():
            size += len(part)
            if size > self._limits.answer_bytes:
                raise bad_upstream("the model's answer is larger than the gateway takes")
            parts.append(part)
        body = b"".join(parts)
        try:
            call.usage = read_answer(body)
        except ValueError:
            raise bad_upstream() from None
        call.stop_watching()
        headers = [(b"content-type", JSON), (b"content-length", str(size).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        call.outcome = "complete"

    async def _stream(self, asked: Asked, reply: aiohttp.ClientResponse, send: Send, call: Call) -> None:
        if reply.content_type != "text/event-stream":
            raise bad_upstream()
        passage = Passage(strip_usage=asked.strip_usage, most_held_bytes=self._limits.answer_bytes)
        try:
            async for data in reply.content.iter_any():
                await _pass_on(passage, passage.feed(data), send, call)
                if passage.state is not State.OPEN:
                    break
            else:
                await _pass_on(passage, passage.end(), send, call)
        finally:
            call.usage = passage.tally.usage
            call.texts = passage.tally.texts
        if passage.state is State.FAILED:
            raise bad_upstream("the model's server broke off its answer")
        call.outcome = "complete"
        await _read_to_end(reply)

    async def _break_off(self, refusal: Refusal, send: Send, call: Call) -> None:
        """Tell the client of a failure: as a refusal while nothing was sent, else as the stream's last event."""
        if not call.started:
            raise refusal
        if call.outcome == "complete":
            return
        call.outcome = "interrupted"
        call.error = refusal.code
        try:
            async with asyncio.timeout(_LAST_WORD_S):
                await send({"type": "http.response.body", "body": refusal.event(call.shown_id)})
        except TimeoutError:
            raise ClientGone from None


async def _pass_on(passage: Passage, data: bytes, send: Send, call: Call) -> None:
    finished = passage.state is State.FINISHED
    if finished:
        call.stop_watching()
    elif not data:
        return
    if not call.started:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": data, "more_body": not finished})


async def _read_to_end(reply: aiohttp.ClientResponse) -> None:
    """Read what is left of a finished stream, for a moment; a connection that was not read to its end is closed."""
    try:
        async with asyncio.timeout(_AFTER_DONE_S):
            async for _ in reply.content.iter_any():
                pass
    except (TimeoutError, aiohttp.ClientError, OSError):
        reply.close()
