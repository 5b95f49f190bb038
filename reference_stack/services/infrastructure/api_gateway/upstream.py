"""The models' servers as the gateway reaches them: one connection pool, one row a model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import aiohttp

from reference_stack.schemas.configuration.api_gateway import ApiGatewaySettings
from reference_stack.services.infrastructure.api_gateway.backend import Backend, backend_of
from reference_stack.services.infrastructure.api_gateway.refusal import Refusal, bad_request, bad_upstream

# uvicorn and vLLM close a connection that was idle for 5 s; one that is used at that very moment would be lost.
_IDLE_S = 3.0
_HEALTH_REMEMBERED_S = 1.0
_LONGEST_ERROR = 64 * 1024
_CONTEXT_WORDS = (b"max_model_len", b"maximum context length", b"context length")


class Upstreams:
    """Open between `start` and `close`."""

    def __init__(self, settings: ApiGatewaySettings) -> None:
        self.by_model = {name: backend_of(each) for name, each in settings.upstreams.items()}
        self._connect_s = settings.connect_s
        self._health_s = settings.health_s
        self._session: aiohttp.ClientSession | None = None
        self._found: tuple[Mapping[str, str], float] = ({}, float("-inf"))

    async def start(self) -> None:
        """Open the pool; it is bounded by the gateway's own limit of requests in flight."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_S),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent",),
            auto_decompress=False,
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def post(self, backend: Backend, route: str, body: bytes, request_id: str) -> aiohttp.client._RequestContextManager:
        """Send `body` as it is; redirects are not followed, for a model's server does not say where requests go."""
        headers = {**backend.headers, "X-Request-Id": request_id}
        return self._open.post(backend.routes[route], data=body, headers=headers, allow_redirects=False)

    @property
    def _open(self) -> aiohttp.ClientSession:
        assert self._session is not None, "start() comes first"  # noqa: S101 - a mistake of ours, not of a caller
        return self._session

    async def health(self) -> Mapping[str, str]:
        """Return by model "" or why it does not serve; asked at most once a second, whoever wants to know."""
        found, at = self._found
        if time.monotonic() - at < _HEALTH_REMEMBERED_S:
            return found
        names = list(self.by_model)
        answers = await asyncio.gather(*(self._ask(self.by_model[name]) for name in names))
        self._found = (dict(zip(names, answers, strict=True)), time.monotonic())
        return self._found[0]

    async def _ask(self, backend: Backend) -> str:
        timeout = aiohttp.ClientTimeout(total=self._health_s)
        try:
            async with self._open.get(backend.health, timeout=timeout, allow_redirects=False) as reply:
                return "" if reply.status == 200 else f"its /health answers {reply.status}"
        except TimeoutError:
            return f"its /health does not answer within {self._health_s:g} s"
        except (aiohttp.ClientError, OSError):
            return "it cannot be reached"


@contextmanager
def told_of_loss(reply: aiohttp.ClientResponse) -> Iterator[None]:
    """Make sure that who reads the body of `reply` hears of the connection's end.

    aiohttp 3.14 closes a connection whose chunks cannot be parsed and leaves the body's reader waiting for ever.
    """
    protocol = None if reply.connection is None else reply.connection.protocol
    if protocol is None:  # the body came whole, with the head
        yield
        return

    def tell(lost: asyncio.Future[None] | None = None) -> None:
        if lost is not None:
            lost.exception()  # retrieved here, or asyncio complains that nobody did
        if not reply.content.is_eof() and reply.content.exception() is None:
            reply.content.set_exception(aiohttp.ClientPayloadError("the connection ended before the body"))

    closed = protocol.closed
    if closed is None:
        tell()
        yield
        return
    closed.add_done_callback(tell)
    try:
        yield
    finally:
        closed.remove_done_callback(tell)


async def refusal_from(reply: aiohttp.ClientResponse) -> Refusal:
    """Return what the client is told of an answer that is not 200.

    The server's own words stay here: they repeat values of the request, and tell of its insides.
    """
    if reply.status in (429, 503):
        asked = reply.headers.get("Retry-After", "")
        wait_s = min(int(asked), 60) if asked.isascii() and asked.isdigit() else 1
        return Refusal(reply.status, "model_overloaded", "the model is overloaded", retry_after_s=max(wait_s, 1))
    if reply.status in (400, 422):
        words = await reply.content.read(_LONGEST_ERROR)
        if any(each in words for each in _CONTEXT_WORDS):
            message = "the prompt, or the prompt and the tokens asked for, exceed what the model can hold"
            return bad_request("context_length_exceeded", message)
        return bad_request("refused_by_model", "the model's server refused the request's parameters")
    return bad_upstream(f"the model's server answered with status {reply.status}")
