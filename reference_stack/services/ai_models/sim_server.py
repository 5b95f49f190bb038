"""The simulated vLLM as an ASGI application: vLLM's routes, bodies and status codes before the simulated engine."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import Iterable
from typing import Protocol

from reference_stack.schemas.configuration.model import ModelSettings
from reference_stack.services.ai_models.api_error import ApiError
from reference_stack.services.ai_models.asgi import JSON, Receive, Scope, Send, body_of, header, send_whole
from reference_stack.services.ai_models.cache_config import cache_labels
from reference_stack.services.ai_models.generation import Generation
from reference_stack.services.ai_models.http_metrics import Watched
from reference_stack.services.ai_models.model_spec import load_spec
from reference_stack.services.ai_models.physics import find_device
from reference_stack.services.ai_models.scheduler import Scheduler
from reference_stack.services.ai_models.scripted import Server
from reference_stack.services.ai_models.sim_engine import Live, SimEngine
from reference_stack.services.ai_models.sim_limits import limits_of, read_key
from reference_stack.services.ai_models.sim_metrics import SimMetrics
from reference_stack.services.ai_models.sim_pages import Pages

_GENERATE: tuple[str, ...] = ("/v1/chat/completions", "/v1/completions")
_POOL: tuple[str, ...] = ("/v1/embeddings",)


class _Work(Protocol):
    """What a server does with the requests that take its engine's time."""

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> int: ...


class SimServer:
    """The application."""

    def __init__(self, settings: ModelSettings) -> None:
        spec = load_spec(settings.service)
        device = find_device(settings.device)
        longest = min(settings.max_model_len or spec.max_model_len, spec.architecture.max_positions)
        self._key = read_key(settings)
        scheduler: Scheduler[Live] = Scheduler(limits_of(settings, spec))
        generates, tools = settings.runner == "generate", settings.enable_auto_tool_choice
        self._metrics = SimMetrics(spec.name, scheduler, generates=generates, parses_tools=tools)
        caching = settings.enable_prefix_caching
        self._metrics.configured(
            cache_labels(scheduler.pool.total, longest, spec.kv_bytes_per_token, prefix_caching=caching)
        )
        self._engine = SimEngine(spec, device, scheduler, self._metrics, speed=settings.speed)
        self._headers = [(b"x-simulated", device.title.encode())]
        pages = Pages(spec, device, self._engine, self._metrics, max_model_len=longest)
        self._routes = pages.routes
        server = Server(spec, longest, settings.seed, tools, settings.allow_scripts, settings.script)
        self._works = _POOL if settings.runner == "pooling" else _GENERATE
        self._work: _Work
        if settings.runner == "pooling":
            from reference_stack.services.ai_models.embeddings import Embeddings  # imports numpy

            self._work = Embeddings(spec, longest, caching, self._engine, self._headers)
        else:
            self._work = Generation(server, settings, self._engine, self._metrics, pages.fingerprint, self._headers)
        self._shutdown_timeout_s = settings.shutdown_timeout_s
        self._draining = False
        self._open = 0  # requests that are worked on
        self._idle = asyncio.Event()
        self._idle.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def drain(self) -> bool:
        """Refuse new requests, as vLLM does with --shutdown-timeout, until the open ones have ended or time is up.

        Returns whether they had what time they were promised: without a timeout, none.
        """
        if not self._shutdown_timeout_s:
            return True
        self._draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._shutdown_timeout_s):
                await self._idle.wait()
        return self._idle.is_set()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await self._engine.close()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        works = path in self._works
        known = works or path in self._routes
        send = Watched(send)
        try:
            if not self._authorised(scope):
                await self._send(send, 401, b'{"error":"Unauthorized"}')
            elif not known and (path[:-1] in self._routes or path[:-1] in self._works) and path[-1] == "/":
                place = b"http://" + header(scope, b"host") + path[:-1].encode()
                await self._send(send, 307, b"", more=((b"location", place),))
            elif not known:
                await self._send(send, 404, b'{"detail":"Not Found"}')
            elif method not in (("POST",) if works else self._routes[path]):
                allow = "POST" if works else ", ".join(self._routes[path])
                more = ((b"allow", allow.encode()),)
                await self._send(send, 405, b'{"detail":"Method Not Allowed"}', more=more)
            elif works:
                await self._generate(scope, receive, send)
            else:
                body = await body_of(receive) if method == "POST" else b""
                await self._send(send, *self._routes[path][method](scope, body))
        except ApiError as error:
            await self._send(send, error.status, error.body)
        finally:
            self._metrics.http.answered(path if known else "none", method, scope["headers"], send)

    async def _generate(self, scope: Scope, receive: Receive, send: Send) -> int:
        if self._draining:
            await body_of(receive)
            raise ApiError("cannot schedule new futures after shutdown", status=500)
        self._open += 1
        self._idle.clear()
        try:
            return await self._work.answer(scope, receive, send)
        finally:
            self._open -= 1
            if not self._open:
                self._idle.set()

    async def _send(
        self, send: Send, status: int, body: bytes, kind: bytes = JSON, *, more: Iterable[tuple[bytes, bytes]] = ()
    ) -> int:
        await send_whole(send, status, body, [*self._headers, *more], kind)
        return status

    def _authorised(self, scope: Scope) -> bool:
        if self._key is None or not scope["path"].startswith("/v1") or scope["method"] == "OPTIONS":
            return True
        scheme, _, key = header(scope, b"authorization").partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(key, self._key)


def create_app(settings: ModelSettings) -> SimServer:
    """Return the application; raise SettingsError where the model does not fit its limits."""
    return SimServer(settings)
