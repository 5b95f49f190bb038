"""What happens to a request, whatever carries it: who may come in, what it may cost, who serves it, what is kept.

The transports call these steps in order: `admit` with the head, `enter` (and `leave` at the very end), `check_kind`,
then with the body `read`, and `accept`, which makes the errand that sees to the rest. No step knows a socket.
"""

from __future__ import annotations

import asyncio

from reference_stack.schemas.configuration.api_gateway import ApiGatewaySettings
from reference_stack.services.infrastructure.api_gateway.asked import Asked, Reader
from reference_stack.services.infrastructure.api_gateway.backend import Backend
from reference_stack.services.infrastructure.api_gateway.body import refuse_type
from reference_stack.services.infrastructure.api_gateway.call import Call
from reference_stack.services.infrastructure.api_gateway.head import Head
from reference_stack.services.infrastructure.api_gateway.keys.ring import KeyRing, Shown
from reference_stack.services.infrastructure.api_gateway.keys.salt import Salts
from reference_stack.services.infrastructure.api_gateway.measures import Measures
from reference_stack.services.infrastructure.api_gateway.ports import Ended, Grant, Lease, Ports
from reference_stack.services.infrastructure.api_gateway.refusal import JSON, overloaded, stopping
from reference_stack.services.infrastructure.api_gateway.traces import Traces
from reference_stack.services.infrastructure.api_gateway.wire.watch import Watch

_CANCELLED = Ended.CANCELLED  # looking it up in its enum costs more than a request's place in flight
_UNSEEN = (Ended.UNREACHED, Ended.BEFORE)
_REPEATABLE = (Ended.UNREACHED, Ended.BEFORE, Ended.REFUSED)
_HIT, _MISS = b"x-hxp-cache: hit\r\n", b"x-hxp-cache: miss\r\n"


class Story:
    """The gateway's policy, one for all transports."""

    def __init__(
        self,
        settings: ApiGatewaySettings,
        ring: KeyRing,
        ports: Ports,
        measures: Measures,
        traces: Traces | None = None,
    ) -> None:
        self.limits = settings.limits
        self.traces = traces
        self.timeout_s = settings.timeout_s
        self.journal = ports.journal
        self.watch = Watch()
        salted = frozenset(name for name, upstream in settings.upstreams.items() if upstream.cache_salt)
        salts = Salts(settings.pepper(), salted)
        self._reader = Reader(settings.limits, settings.upstreams, salts)
        self._ring = ring
        self._ports = ports
        self._measures = measures
        self._session_header = (settings.routing.session_header or "").encode()
        self._cut = False
        self._keeping: set[asyncio.Task[None]] = set()

    async def admit(self, call: Call, head: Head) -> None:
        """Let the request in by its key. Raises Refusal 401, or 503 when keys cannot be checked."""
        if not self.recognise(call, head):
            await self.ask_key(call, head)

    def recognise(self, call: Call, head: Head, shown: Shown | None = None) -> bool:
        """Let the request in by a key that is at hand; else return False, and `ask_key` tells. Raises Refusal 401.

        `shown` is what its connection showed before, where the transport knows connections.
        """
        if self.traces is not None:
            self.traces.begin(call, head.headers)
        if self._session_header:
            call.session = (head.first(self._session_header) or b"").decode("latin-1")
        call.key = key = self._ring.at_hand(head.every(b"authorization"), shown)
        return key is not None

    async def ask_key(self, call: Call, head: Head, shown: Shown | None = None) -> None:
        """Let the request in by a key that others are asked for. Raises Refusal 401, or 503."""
        call.key = await self._ring.admit(head.every(b"authorization"), shown)

    def enter(self) -> None:
        """Take a place among the requests in flight. Raises Refusal 503 when there is none."""
        if self._cut:
            raise stopping()
        if self._measures.in_flight >= self.limits.in_flight:
            raise overloaded("the gateway has as many requests in flight as it takes")
        self._measures.in_flight += 1

    def cut(self) -> None:
        """End every open request at once: the gateway is being stopped, and they have had their time."""
        self._cut = True
        self.watch.cut()

    def leave(self) -> None:
        """Give the place back."""
        self._measures.in_flight -= 1

    def check_kind(self, head: Head) -> None:
        """Raise Refusal 400 when the body does not call itself JSON."""
        kind = head.first(b"content-type") or b""
        if kind != JSON and kind.partition(b";")[0].strip().lower() != JSON:
            refuse_type()

    def read(self, call: Call, body: bytes) -> Asked:
        """Return what the body asks for. Raises Refusal 400, 404, or 503 when it could not be written down."""
        assert call.key is not None  # noqa: S101 - it was admitted
        asked = self._reader.read(call.route, body, call.key)
        call.model = asked.model
        call.stream = asked.stream
        if self._ports.journal.full:
            raise overloaded("usage cannot be written down at the moment")
        return asked

    async def accept(self, call: Call, asked: Asked) -> Errand:
        """Accept the request: from here on it is in the usage journal.

        Raises Refusal 429 when over a limit, 503 when it cannot be written down.
        """
        assert call.key is not None  # noqa: S101 - it was admitted
        grant = await self._ports.limits.take(call.key, asked.estimated_tokens)
        errand = self._accepted(call, asked, grant)
        if self._ports.journal.waits:
            try:
                await self._ports.journal.synced()
            except BaseException:  # a refusal, or the client left meanwhile
                grant.settle(0)
                raise
        return errand

    def accept_at_once(self, call: Call, asked: Asked) -> Errand | None:
        """The same where nothing has to be waited for; else None, and nothing was done. Raises Refusal 503."""
        assert call.key is not None  # noqa: S101 - it was admitted
        if self._ports.journal.waits:
            return None
        grant = self._ports.limits.take_at_once(call.key, asked.estimated_tokens)
        return None if grant is None else self._accepted(call, asked, grant)

    def _accepted(self, call: Call, asked: Asked, grant: Grant) -> Errand:
        try:
            self._ports.journal.accept(call)
        except BaseException:
            grant.settle(0)
            raise
        call.outcome = "failed"
        call.lines = grant.lines
        return Errand(self._ports, call, asked, grant)

    def complete(self, call: Call) -> None:
        """Write down that the answer is complete; its last bytes go out next."""
        call.outcome = "complete"
        call.written = True
        self._ports.journal.final(call)

    def keep(self, errand: Errand, answer: bytes) -> None:
        """Hand a complete answer to the cache, behind the client's back."""
        task = asyncio.ensure_future(self._ports.answers.keep(errand.call, errand.asked, answer))
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)


class Errand:
    """One accepted request on its way: its grant, and the backends that were asked, one after another."""

    def __init__(self, ports: Ports, call: Call, asked: Asked, grant: Grant) -> None:
        self.call = call
        self.asked = asked
        self.cached = ports.answers.wants(call, asked)
        self._ports = ports
        self._grant = grant
        self._lease: Lease | None = None
        self._tried: list[Backend] = []
        self._seen = self._looked = False

    def lease(self) -> Lease | None:
        """Lease the next backend; None: `wait` tells. Raises Refusal when none is to be had."""
        if self.cached and not self._looked:
            return None
        self._lease = lease = self._ports.router.pick(self.call, self.asked, self._tried)
        if lease is not None:
            self._tried.append(lease.backend)
        return lease

    async def wait(self) -> Lease | bytes:
        """Return the kept answer where there is one, else lease a backend when one is free.

        Asked when `lease` has said None. Raises Refusal when none is to be had.
        """
        if self.cached and not self._looked:
            self._looked = True
            found = await self._ports.answers.find(self.call, self.asked)
            self.call.cached = found is not None
            self.call.lines += _MISS if found is None else _HIT
            if found is not None:
                return found
            lease = self.lease()
            if lease is not None:
                return lease
        self._lease = lease = await self._ports.router.wait(self.call, self.asked)
        self._tried.append(lease.backend)
        return lease

    def ended(self, how: Ended, status: int = 0, rest_s: float = 0.0) -> None:
        """Give the leased backend back, if that was not done yet."""
        lease, self._lease = self._lease, None
        if lease is not None:
            self._seen = self._seen or how not in _UNSEEN
            lease.end(how, status, rest_s)

    def again(self, how: Ended, status: int = 0) -> bool:
        """Return whether to ask another backend; the lease was given back."""
        if self.call.started or how not in _REPEATABLE:
            return False
        return self._ports.router.again(self.call, self.asked, self._tried, how, status)

    def finish(self) -> None:
        """Settle what the request took. Called exactly once, when nothing more will be sent."""
        if self._lease is not None:
            self.ended(_CANCELLED)
        self._grant.settle(self._tokens() if self._seen else 0)

    def _tokens(self) -> int:
        usage = self.call.usage
        prompt = self.asked.estimated_prompt_tokens if usage is None else usage.prompt_tokens
        return prompt + self.call.output_tokens
