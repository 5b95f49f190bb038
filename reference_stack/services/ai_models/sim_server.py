"""The simulated vLLM as an ASGI application: vLLM's routes, bodies and status codes before the simulated engine."""

from __future__ import annotations

import asyncio
import hmac
import re
import time
import uuid

from reference_stack.schemas.configuration.model import ModelSettings
from reference_stack.services.ai_models.answer import Answer
from reference_stack.services.ai_models.api_error import ApiError
from reference_stack.services.ai_models.asgi import JSON, Receive, Scope, Send, body_of, check_json, gone, header
from reference_stack.services.ai_models.model_spec import load_spec
from reference_stack.services.ai_models.physics import find_device
from reference_stack.services.ai_models.request import Asked, Server, ask_chat, ask_completion
from reference_stack.services.ai_models.scheduler import Scheduler
from reference_stack.services.ai_models.sim_engine import Live, SimEngine
from reference_stack.services.ai_models.sim_limits import limits_of, read_key
from reference_stack.services.ai_models.sim_metrics import Choices, Ended, SimMetrics
from reference_stack.services.ai_models.sim_pages import Pages
from reference_stack.services.ai_models.wire import Wire

_SAFE_ID = re.compile(r"[\x21-\x7e]{1,128}")
_EVENTS = b"text/event-stream; charset=utf-8"


class SimServer:
    """The application. Times of arrival count from the moment the body is read."""

    def __init__(self, settings: ModelSettings) -> None:
        spec = load_spec(settings.service)
        device = find_device(settings.device)
        self._spec = spec
        longest = min(settings.max_model_len or spec.max_model_len, spec.architecture.max_positions)
        self._server = Server(spec, longest, settings.seed, settings.enable_auto_tool_choice)
        self._shares = settings.enable_prefix_caching
        self._tells_cached = settings.enable_prompt_tokens_details
        self._max_queued = settings.max_num_queued_reqs
        self._key = read_key(settings)
        scheduler: Scheduler[Live] = Scheduler(limits_of(settings, spec))
        self._metrics = SimMetrics(spec.name, scheduler, prefix_caching=self._shares)
        self._engine = SimEngine(spec, device, scheduler, self._metrics, speed=settings.speed)
        self._headers = [(b"x-simulated", device.title.encode())]
        self._pages = Pages(spec, device, self._engine, self._metrics, max_model_len=longest)
        self._routes = self._pages.routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

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
        generates = path in ("/v1/chat/completions", "/v1/completions")
        known = generates or path in self._routes
        status = 500
        try:
            if not self._authorised(scope):
                status = await self._send(send, 401, b'{"error":"Unauthorized"}')
            elif not known:
                status = await self._send(send, 404, b'{"detail":"Not Found"}')
            elif method not in (("POST",) if generates else self._routes[path]):
                allow = "POST" if generates else ", ".join(self._routes[path])
                status = await self._send(send, 405, b'{"detail":"Method Not Allowed"}', allow=allow)
            elif generates:
                status = await self._generate(scope, receive, send)
            else:
                body = await body_of(receive) if method == "POST" else b""
                status = await self._send(send, *self._routes[path][method](scope, body))
        except ApiError as error:
            status = await self._send(send, error.status, error.body)
        finally:
            self._metrics.answered(path if known else "none", method, status)

    async def _generate(self, scope: Scope, receive: Receive, send: Send) -> int:
        body = await body_of(receive)
        arrival_s = time.monotonic()
        check_json(scope)
        chat = scope["path"] == "/v1/chat/completions"
        asked = (ask_chat if chat else ask_completion)(body, self._server)
        if self._max_queued is not None and self._engine.waiting + len(asked.choices) > self._max_queued:
            self._metrics.rejected()
            raise ApiError("The server's queue is full. Please retry later.", status=503)
        given = header(scope, b"x-request-id").decode("latin-1")
        own = given if _SAFE_ID.fullmatch(given) else uuid.uuid4().hex[:16]
        answer_id = f"{'chatcmpl' if chat else 'cmpl'}-{own}"
        fingerprint = self._pages.fingerprint
        wire = Wire(asked, answer_id, int(time.time()), self._spec.name, fingerprint, details=self._tells_cached)
        answer = Answer(wire, asked)
        lives = self._lives(asked, arrival_s, answer)
        departure = asyncio.ensure_future(gone(receive))
        departure.add_done_callback(answer.leave)
        try:
            for live in lives:
                self._engine.submit(live)
            await (self._stream if asked.stream else self._whole)(answer, wire, send)
        finally:
            departure.cancel()
            for live in lives:
                self._engine.abort(live)
        return 200

    def _lives(self, asked: Asked, arrival_s: float, answer: Answer) -> list[Live]:
        groups = [Choices(asked.n) for _ in asked.prompts]
        return [
            Live(
                prompt_tokens=len(asked.prompt_of(i).tokens),
                output_tokens=len(choice.reply.tokens),
                arrival_s=arrival_s,
                keys=asked.keys_of(i) if self._shares else (),
                reads_cache=asked.reads_cache,
                deliver=answer.deliver,
                ended=Ended(choice.reply.finish_reason, asked.max_tokens, groups[i // asked.n]),
                choice=i,
            )
            for i, choice in enumerate(asked.choices)
        ]

    async def _stream(self, answer: Answer, wire: Wire, send: Send) -> None:
        headers = [(b"content-type", _EVENTS), *self._headers]
        tokens = await answer.take()
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while tokens and not answer.gone:
            events = b"".join(tokens)
            if events:
                await send({"type": "http.response.body", "body": events, "more_body": True})
            tokens = await answer.take()
        await send({"type": "http.response.body", "body": b"" if answer.gone else wire.end(answer.cached)})

    async def _whole(self, answer: Answer, wire: Wire, send: Send) -> None:
        await answer.take()
        if not answer.gone:
            await self._send(send, 200, wire.whole(answer.cached))

    async def _send(self, send: Send, status: int, body: bytes, kind: bytes = JSON, *, allow: str = "") -> int:
        headers = [(b"content-length", b"%d" % len(body)), *self._headers]
        if body:
            headers.append((b"content-type", kind))
        if allow:
            headers.append((b"allow", allow.encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        return status

    def _authorised(self, scope: Scope) -> bool:
        if self._key is None or not scope["path"].startswith("/v1/"):
            return True
        scheme, _, key = header(scope, b"authorization").partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(key, self._key)


def create_app(settings: ModelSettings) -> SimServer:
    """Return the application; raise SettingsError where the model does not fit its limits."""
    return SimServer(settings)
