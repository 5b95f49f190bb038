"""Relays one request to its model and the answer back: whole, or as a stream while it comes."""

from __future__ import annotations

import asyncio
import logging

import aiohttp
from starlette.types import Receive, Scope, Send

from reference_stack.services.infrastructure.api_gateway.asked import Asked
from reference_stack.services.infrastructure.api_gateway.body import read_body
from reference_stack.services.infrastructure.api_gateway.call import Call, call_of
from reference_stack.services.infrastructure.api_gateway.events import read_answer
from reference_stack.services.infrastructure.api_gateway.passage import Passage, State
from reference_stack.services.infrastructure.api_gateway.ports import Ended, Lease
from reference_stack.services.infrastructure.api_gateway.presence import ClientGone, while_present
from reference_stack.services.infrastructure.api_gateway.refusal import (
    JSON,
    Refusal,
    bad_upstream,
    upstream_timeout,
)
from reference_stack.services.infrastructure.api_gateway.story import Errand, Story
from reference_stack.services.infrastructure.api_gateway.upstream import Upstreams, refusal_from, told_of_loss

log = logging.getLogger(__name__)

# How long a client that reads nothing is waited for to take the last event of a stream that failed.
_LAST_WORD_S = 0.5
# Behind [DONE] there is nothing but the end; waiting for it keeps the connection for the next request.
_AFTER_DONE_S = 0.2
_EVENT_STREAM = ((b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache"))
_HIT = (b"x-hxp-cache", b"hit")


class Relay:
    """What the two completion routes share, carried by ASGI on one side and aiohttp on the other."""

    def __init__(self, story: Story, upstreams: Upstreams) -> None:
        self._story = story
        self._upstreams = upstreams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one authenticated request. Raises Refusal while nothing was sent, and ClientGone."""
        call = call_of(scope)
        self._story.enter()
        try:
            self._story.check_kind(scope["headers"])
            body = await read_body(scope["headers"], receive, self._story.limits)
            await self._relay(self._story.read(call, body), receive, send, call)
        finally:
            self._story.leave()

    async def _relay(self, asked: Asked, receive: Receive, send: Send, call: Call) -> None:
        try:
            async with while_present(receive) as call.stop_watching, asyncio.timeout(self._story.timeout_s):
                errand = await self._story.accept(call, asked)
                try:
                    await self._serve(errand, send)
                finally:
                    errand.finish()
        except ClientGone:
            if call.outcome is not None:
                call.outcome = "cancelled"
            raise
        except TimeoutError:
            await self._break_off(upstream_timeout(), send, call)
        except Refusal as refusal:
            await self._break_off(refusal, send, call)

    async def _serve(self, errand: Errand, send: Send) -> None:
        found = await errand.find()
        if found is not None:
            await _answer_kept(errand, found, send)
            return
        while True:
            refusal = await self._attempt(await errand.lease(), errand, send)
            if refusal is None:
                return
            how, status, refused = refusal
            errand.ended(how, status)
            if not errand.again(how, status):
                raise refused

    async def _attempt(self, lease: Lease, errand: Errand, send: Send) -> tuple[Ended, int, Refusal] | None:
        """Ask one backend; return how it failed, or None when the client has the answer."""
        call = errand.call
        status = 0
        try:
            async with self._upstreams.post(lease.backend, call.route, errand.asked.body, call.id) as reply:
                status = reply.status
                with told_of_loss(reply):
                    if status != 200:
                        return Ended.REFUSED, status, await refusal_from(reply)
                    if errand.asked.stream:
                        await self._stream(errand, lease, reply, send)
                    else:
                        await self._whole(errand, lease, reply, send)
        except TimeoutError:
            errand.ended(Ended.AFTER if status else Ended.BEFORE, status)
            raise
        except (aiohttp.ClientError, OSError) as error:
            log.info("request %s: model %s: %s", call.id, call.model, type(error).__name__)
            return Ended.AFTER if status else Ended.BEFORE, status, bad_upstream()
        except Refusal as refusal:
            return Ended.AFTER, status, refusal
        errand.ended(Ended.OK, status)
        return None

    async def _whole(self, errand: Errand, lease: Lease, reply: aiohttp.ClientResponse, send: Send) -> None:
        call = errand.call
        parts: list[bytes] = []
        size = 0
        async for part in reply.content.iter_any():
            lease.heard()
            size += len(part)
            if size > self._story.limits.answer_bytes:
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
        if errand.cached:
            self._story.keep(errand, body)

    async def _stream(self, errand: Errand, lease: Lease, reply: aiohttp.ClientResponse, send: Send) -> None:
        call = errand.call
        if reply.content_type != "text/event-stream":
            raise bad_upstream()
        passage = Passage(strip_usage=errand.asked.strip_usage, most_held_bytes=self._story.limits.answer_bytes)
        try:
            async for data in reply.content.iter_any():
                lease.heard()
                await self._pass_on(passage, passage.feed(data), send, errand)
                if passage.state is not State.OPEN:
                    break
            else:
                await self._pass_on(passage, passage.end(), send, errand)
        finally:
            _count(call, passage)
        if passage.state is State.FAILED:
            raise bad_upstream("the model's server broke off its answer")
        call.outcome = "complete"
        errand.ended(Ended.OK, reply.status)
        if errand.cached:
            self._story.keep(errand, b"".join(errand.passed))
        await _read_to_end(reply)

    async def _pass_on(self, passage: Passage, data: bytes, send: Send, errand: Errand) -> None:
        call = errand.call
        finished = passage.state is State.FINISHED
        if finished:
            call.stop_watching()
        elif not data:
            return
        _count(call, passage)
        self._story.journal.progress(call)
        if errand.cached:
            errand.passed.append(data)
        if not call.started:
            await send({"type": "http.response.start", "status": 200, "headers": list(_EVENT_STREAM)})
        await send({"type": "http.response.body", "body": data, "more_body": not finished})

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


def _count(call: Call, passage: Passage) -> None:
    call.usage = passage.tally.usage
    call.texts = passage.tally.texts


async def _answer_kept(errand: Errand, answer: bytes, send: Send) -> None:
    """Send an answer that the cache had; it is marked as such, and its tokens are those of the answer."""
    call = errand.call
    if errand.asked.stream:
        passage = Passage(strip_usage=False, most_held_bytes=len(answer))
        passage.feed(answer)
        _count(call, passage)
        headers = [*_EVENT_STREAM]
    else:
        call.usage = read_answer(answer)
        headers = [(b"content-type", JSON), (b"content-length", str(len(answer)).encode())]
    call.stop_watching()
    await send({"type": "http.response.start", "status": 200, "headers": [*headers, _HIT]})
    await send({"type": "http.response.body", "body": answer})
    call.outcome = "complete"


async def _read_to_end(reply: aiohttp.ClientResponse) -> None:
    """Read what is left of a finished stream, for a moment; a connection that was not read to its end is closed."""
    try:
        async with asyncio.timeout(_AFTER_DONE_S):
            async for _ in reply.content.iter_any():
                pass
    except (TimeoutError, aiohttp.ClientError, OSError):
        reply.close()
