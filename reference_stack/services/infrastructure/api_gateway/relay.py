"""Passes one accepted request to its model and the answer back, between any client and any server of a model."""

from __future__ import annotations

import asyncio
import logging
import time

from reference_stack.services.infrastructure.api_gateway.asked import EMBEDDINGS, Asked
from reference_stack.services.infrastructure.api_gateway.call import Call
from reference_stack.services.infrastructure.api_gateway.client import Client
from reference_stack.services.infrastructure.api_gateway.events import read_answer
from reference_stack.services.infrastructure.api_gateway.kept import count_kept
from reference_stack.services.infrastructure.api_gateway.mistake import log_mistake, our_mistake
from reference_stack.services.infrastructure.api_gateway.passage import Passage, State
from reference_stack.services.infrastructure.api_gateway.ports import Ended, Lease
from reference_stack.services.infrastructure.api_gateway.refusal import (
    Refusal,
    bad_upstream,
    stopping,
    unavailable,
    upstream_timeout,
)
from reference_stack.services.infrastructure.api_gateway.said import LONGEST_WORDS_BYTES, header, refusal_from
from reference_stack.services.infrastructure.api_gateway.story import Errand, Story
from reference_stack.services.infrastructure.api_gateway.stream import WHOLE, Stream
from reference_stack.services.infrastructure.api_gateway.wire.drive import drive
from reference_stack.services.infrastructure.api_gateway.wire.exchange import Exchange, Headers
from reference_stack.services.infrastructure.api_gateway.wire.pool import Pool

log = logging.getLogger(__name__)

# By names of their own: looking a member up in its enum costs some 0.2 us (CPython 3.11), at each event of each stream.
_OK, _FINISHED, _FAILED = Ended.OK, State.FINISHED, State.FAILED


def _nothing() -> None:
    """What giving up is when all is over."""


class Relay:
    """One request after its body was read. `start` begins it; the client calls `gone` when it leaves."""

    __slots__ = (
        "_asked", "_call", "_client", "_ear", "_errand", "_exchange", "_headers", "_lease", "_over",
        "_parts", "_paused", "_pool", "_size", "_status", "_story", "_stream", "_task", "due_s",
    )  # fmt: skip

    def __init__(self, story: Story, pool: Pool, call: Call, asked: Asked, client: Client) -> None:
        self._story = story
        self._pool = pool
        self._call = call
        self._asked = asked
        self._client = client
        self._task: asyncio.Task[None] | None = None
        self._errand: Errand | None = None
        self._lease: Lease | None = None
        self._exchange: Exchange | None = None
        self._over = self._paused = False
        self._stream: Stream | None = None
        self._status = self._size = 0
        self._parts: list[bytes] = []
        self.due_s = time.monotonic() + story.timeout_s

    def start(self) -> None:
        self._story.watch.add(self)
        self._call.give_up = self.give_up
        self._ask()

    # What the client tells.

    def gone(self) -> None:
        """The client has left: the model stops working for it. Does nothing once the relay is over."""
        if not self._over:
            if self._call.outcome is not None:
                self._call.outcome = "cancelled"
            self._finish()

    def pause(self) -> None:
        self._paused = True
        if self._lease is not None:
            self._lease.held()
        if self._exchange is not None:
            self._exchange.pause()

    def resume(self) -> None:
        self._paused = False
        if self._lease is not None:
            self._lease.released()
        if self._exchange is not None:
            self._exchange.resume()

    def expire(self, _now_s: float) -> None:
        """The time is up."""
        self._fail(Ended.LATE if self._status else Ended.BEFORE, upstream_timeout(), final=True)

    def give_up(self) -> None:
        """The server that has the request is stuck, as whoever watches it found."""
        if self._over or self._exchange is None:
            return
        if self._begun:
            self._fail(Ended.AFTER, bad_upstream("the model's server is stuck"))
        else:  # headers that came long before the first token are no part of an answer yet
            self._fail(Ended.BEFORE, unavailable("the model's server is stuck"))

    def cut(self) -> None:
        """The gateway ends, and cannot wait."""
        self._fail(Ended.CANCELLED, stopping(), final=True)

    # Up to the model.

    def _ask(self) -> None:
        """Ask the next server, as soon as what has to be waited for is there: mostly nothing."""
        try:
            errand = self._errand = self._errand or self._story.accept_at_once(self._call, self._asked)
            lease = None if errand is None else errand.lease()
        except Exception as error:  # noqa: BLE001 - whatever is wrong behind a seam, the client is told
            self._not_sent(error)
            return
        if lease is None:
            self._task = drive(self._ask_later())
        else:
            self._to(lease)

    async def _ask_later(self) -> None:
        try:
            found: Lease | bytes | None = None
            if self._errand is None:
                self._errand = await self._story.accept(self._call, self._asked)
                found = self._errand.lease()
            if found is None:
                found = await self._errand.wait()
            self._task = None
            if isinstance(found, bytes):
                self._answer_kept(found)
                return
        except Exception as error:  # noqa: BLE001 - whatever is wrong behind a seam, the client is told
            self._not_sent(error)
            return
        self._to(found)

    def _not_sent(self, error: Exception) -> None:
        self._task = None
        if not isinstance(error, Refusal):
            log_mistake(error, self._call)
        self._fail(Ended.CANCELLED, error if isinstance(error, Refusal) else our_mistake(), final=True)

    def _to(self, lease: Lease) -> None:
        """Send the request to the server that was leased."""
        self._lease = lease
        self._ear = lease.ear
        self._exchange = self._pool.send(
            lease.backend, self._call.route, self._asked.body, self._call.id + self._call.carried, self
        )
        if self._paused:
            lease.held()
            self._exchange.pause()
        if self._asked.stream:  # made while the model is at work, and not when its client waits for the first event
            assert self._errand is not None  # noqa: S101 - it was accepted
            passage = Passage(strip_usage=self._asked.strip_usage, most_held_bytes=self._story.limits.answer_bytes)
            self._stream = Stream(passage, self._call, self._client, self._story.journal, keeps=self._errand.cached)

    # What the model's server says.

    def head(self, status: int, headers: Headers) -> None:
        self._status = status
        self._headers = headers
        self._ear.heard = True
        if status != 200:
            self._stream = None
        elif self._stream is not None and not header(headers, b"content-type").startswith(b"text/event-stream"):
            self._fail(Ended.AFTER, bad_upstream())

    def part(self, data: bytes) -> None:
        self._ear.heard = True
        if self._stream is not None:
            self._passed(self._stream, self._stream.part(data))
            return
        self._size += len(data)
        self._parts.append(data)
        if self._status != 200:
            if self._size >= LONGEST_WORDS_BYTES:
                self._refused()
        elif self._size > self._story.limits.answer_bytes:
            self._fail(Ended.AFTER, bad_upstream("the model's answer is larger than the gateway takes"))

    def end(self) -> None:
        if self._stream is not None:
            self._passed(self._stream, self._stream.end())
        elif self._status != 200:
            self._refused()
        else:
            self._answer(b"".join(self._parts))

    def lost(self, why: str, *, reached: bool = True) -> None:
        log.info("request %s: model %s: %s", self._call.id, self._call.model, why)
        before = Ended.BEFORE if reached else Ended.UNREACHED
        self._fail(Ended.AFTER if self._status else before, bad_upstream())

    # To the client.

    def _answer(self, body: bytes) -> None:
        try:
            self._call.usage = read_answer(body, vectors=self._call.route == EMBEDDINGS)
        except ValueError:
            self._fail(Ended.AFTER, bad_upstream())
            return
        self._complete(_OK, body)
        self._client.whole(WHOLE, body)

    def _answer_kept(self, answer: bytes) -> None:
        headers = count_kept(self._call, self._asked, answer)
        self._complete(Ended.CANCELLED, None)
        self._client.whole(headers, answer)

    def _passed(self, stream: Stream, last: bytes) -> None:
        """See how a stream stands after what was passed on of it; `last` is what was not."""
        state = stream.state
        if state is _FINISHED:
            self._complete(_OK, stream.kept)
            self._client.last(last)
        elif state is _FAILED:
            self._fail(Ended.AFTER, bad_upstream("the model's server broke off its answer"))
        elif self._exchange is not None and (takes := stream.shortcut(self._ear)) is not None:
            self._exchange.shorten(takes)

    @property
    def _begun(self) -> bool:
        """Whether the client was sent some of a stream."""
        return self._stream is not None and self._stream.begun

    def _complete(self, how: Ended, answer: bytes | None) -> None:
        """All that is left is to send the last of the answer."""
        errand = self._errand
        assert errand is not None  # noqa: S101 - it was accepted
        self._story.complete(self._call)
        if self._exchange is not None:
            self._exchange.release()
            self._exchange = None
        errand.ended(how, self._status)
        self._finish()
        if errand.cached and answer is not None:
            self._story.keep(errand, answer)

    def _refused(self) -> None:
        refusal = refusal_from(self._status, self._headers, b"".join(self._parts))
        self._fail(Ended.REFUSED, refusal)

    def _fail(self, how: Ended, refusal: Refusal, *, final: bool = False) -> None:
        """Ask another server, where that may be; else tell the client, as a refusal or as the stream's last event."""
        errand = self._errand
        self._drop()
        if errand is not None:
            errand.ended(how, self._status, refusal.retry_after_s or 0.0)
            if not final and not self._begun and errand.again(how, self._status):
                self._status = self._size = 0
                self._stream, self._parts = None, []
                self._ask()
                return
        if self._begun:
            self._call.outcome = "interrupted"
            self._call.error = refusal.code
        self._finish()
        if self._begun:
            self._client.broken(refusal.event(self._call.shown_id))
        else:
            self._client.refuse(refusal)

    def _drop(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.cancel()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    def _finish(self) -> None:
        self._over = True
        self.due_s = float("inf")
        self._story.watch.discard(self)
        self._call.give_up = _nothing  # or the call and this would keep each other until the collector comes
        self._drop()
        if self._stream is not None:
            self._stream.count()  # what went the short way too
        if self._errand is not None:
            self._errand.finish()
