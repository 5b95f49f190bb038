"""The simulated vLLM as an ASGI application: vLLM's routes, bodies and status codes before the simulated engine."""

from __future__ import annotations

import asyncio
import hmac
import os
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST

from reference_stack.errors import SettingsError
from reference_stack.schemas.api.openai import TokenizeChatRequest, TokenizePromptRequest
from reference_stack.schemas.configuration.model import ModelSettings
from reference_stack.services.ai_models.api_error import ApiError, invalid
from reference_stack.services.ai_models.model_spec import ModelSpec, load_spec
from reference_stack.services.ai_models.physics import find_device, kv_capacity_tokens
from reference_stack.services.ai_models.reply import token_id, tokenize
from reference_stack.services.ai_models.request import (
    Asked,
    ask_chat,
    ask_completion,
    chat_tokens,
    check_model,
    decode,
    message_texts,
    read,
)
from reference_stack.services.ai_models.scheduler import Limits, Scheduler
from reference_stack.services.ai_models.sim_engine import Live, SimEngine
from reference_stack.services.ai_models.sim_metrics import Ended, SimMetrics
from reference_stack.services.ai_models.wire import Wire, dumps

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

WIRE_VERSION = "0.32.0"  # the vLLM whose answers these are
_SAFE_ID = re.compile(r"[\x21-\x7e]{1,128}")
_JSON = b"application/json"
_EVENTS = b"text/event-stream; charset=utf-8"


class _Answer:
    """Collects the tokens of one request until its task takes them."""

    def __init__(self, wire: Wire, asked: Asked) -> None:
        self._wire = wire
        self._chat = asked.chat
        self._stream = asked.stream
        self._open = len(asked.replies)
        self._pending: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self.gone = False

    def deliver(self, live: Live) -> None:
        if self._stream:
            if live.generated == 1 and self._chat:
                self._pending.append(self._wire.role(live.choice))
            self._pending.append(self._wire.token(live.choice, live.generated - 1))
        if live.over:
            self._open -= 1
        if self._stream or not self._open:
            self._notify()

    def leave(self, _: object = None) -> None:
        """The client has gone."""
        self.gone = True
        self._notify()

    async def take(self) -> bytes:
        """Wait for events and return them; empty when there will be no more."""
        while not self._pending and self._open and not self.gone:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        events = b"".join(self._pending)
        self._pending.clear()
        return events

    def _notify(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class SimServer:
    """The application. Times of arrival count from the moment the body is read."""

    def __init__(self, settings: ModelSettings) -> None:
        spec = load_spec(settings.service)
        device = find_device(settings.device)
        self._limits = _limits(settings, spec)
        self._spec = spec
        self._device = device
        self._max_model_len = min(settings.max_model_len or spec.max_model_len, spec.architecture.max_positions)
        self._seed = settings.seed
        self._max_queued = settings.max_num_queued_reqs
        self._key = _read_key(settings)
        scheduler: Scheduler[Live] = Scheduler(self._limits)
        self._metrics = SimMetrics(spec.name, scheduler)
        self._engine = SimEngine(spec, device, scheduler, self._metrics, speed=settings.speed)
        self._fingerprint = f"sim-{WIRE_VERSION}-{device.name}"
        self._headers = [(b"x-simulated", device.title.encode())]
        self._started_s = int(time.time())
        self._routes: dict[str, dict[str, Callable[[Scope, bytes], tuple[int, bytes, bytes]]]] = {
            "/v1/models": {"GET": self._models},
            "/health": {"GET": self._ready},
            "/health/ready": {"GET": self._ready},
            "/health/live": {"GET": self._live},
            "/ping": {"GET": self._ping, "POST": self._ping},
            "/version": {"GET": self._version},
            "/load": {"GET": self._load},
            "/metrics": {"GET": self._page},
            "/tokenize": {"POST": self._tokenize},
        }

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
                body = await _body(receive) if method == "POST" else b""
                status = await self._send(send, *self._routes[path][method](scope, body))
        except ApiError as error:
            status = await self._send(send, error.status, error.body)
        finally:
            self._metrics.answered(path if known else "none", method, status)

    async def _generate(self, scope: Scope, receive: Receive, send: Send) -> int:
        body = await _body(receive)
        arrival_s = time.monotonic()
        _check_json(scope)
        chat = scope["path"] == "/v1/chat/completions"
        asked = (ask_chat if chat else ask_completion)(body, self._spec, self._max_model_len, self._seed)
        if self._max_queued is not None and self._engine.waiting + len(asked.replies) > self._max_queued:
            self._metrics.rejected()
            raise ApiError("The server's queue is full. Please retry later.", status=503)
        given = _header(scope, b"x-request-id").decode("latin-1")
        own = given if _SAFE_ID.fullmatch(given) else uuid.uuid4().hex[:16]
        answer_id = f"{'chatcmpl' if chat else 'cmpl'}-{own}"
        wire = Wire(asked, answer_id, int(time.time()), self._spec.name, self._fingerprint)
        answer = _Answer(wire, asked)
        lives = [
            Live(
                prompt_tokens=asked.prompt_tokens_of(i),
                output_tokens=len(reply.tokens),
                arrival_s=arrival_s,
                deliver=answer.deliver,
                ended=Ended(reply.finish_reason, asked.max_tokens, 0 if i else asked.n),
                choice=i,
            )
            for i, reply in enumerate(asked.replies)
        ]
        gone = asyncio.ensure_future(_gone(receive))
        gone.add_done_callback(answer.leave)
        try:
            for live in lives:
                self._engine.submit(live)
            await (self._stream if asked.stream else self._whole)(answer, wire, send)
        finally:
            gone.cancel()
            for live in lives:
                self._engine.abort(live)
        return 200

    async def _stream(self, answer: _Answer, wire: Wire, send: Send) -> None:
        headers = [(b"content-type", _EVENTS), *self._headers]
        events = await answer.take()
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while events and not answer.gone:
            await send({"type": "http.response.body", "body": events, "more_body": True})
            events = await answer.take()
        await send({"type": "http.response.body", "body": b"" if answer.gone else wire.end()})

    async def _whole(self, answer: _Answer, wire: Wire, send: Send) -> None:
        await answer.take()
        if not answer.gone:
            await self._send(send, 200, wire.whole())

    async def _send(self, send: Send, status: int, body: bytes, kind: bytes = _JSON, *, allow: str = "") -> int:
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
        scheme, _, key = _header(scope, b"authorization").partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(key, self._key)

    def _models(self, _scope: Scope, _body: bytes) -> tuple[int, bytes, bytes]:
        permission = {
            "id": f"modelperm-{self._spec.name}",
            "object": "model_permission",
            "created": self._started_s,
            "allow_create_engine": False,
            "allow_sampling": True,
            "allow_logprobs": True,
            "allow_search_indices": False,
            "allow_view": True,
            "allow_fine_tuning": False,
            "organization": "*",
            "group": None,
            "is_blocking": False,
        }
        model = {
            "id": self._spec.name,
            "object": "model",
            "created": self._started_s,
            "owned_by": "hxp-sim",
            "root": str(self._spec.path),
            "parent": None,
            "max_model_len": self._max_model_len,
            "permission": [permission],
        }
        return 200, dumps({"object": "list", "data": [model]}), _JSON

    def _ready(self, _scope: Scope, _body: bytes) -> tuple[int, bytes, bytes]:
        return 200, dumps({"service": self._spec.name, "status": "ready", "dependencies": {}}), _JSON

    def _live(self, _scope: Scope, _body: bytes) -> tuple[int, bytes, bytes]:
        return 200, dumps({"service": self._spec.name, "status": "live"}), _JSON

    def _ping(self, _scope: Scope, _body: bytes) -> tuple[int, bytes, bytes]:
        return 200, b"", _JSON

    def _version(self, _scope: Scope, _body: bytes) -> tuple[int, bytes, bytes]:
        about = {"version": self._fingerprint, "simulated": True, "wire": WIRE_VERSION, "device": self._device.title}
        return 200, dumps(about), _JSON

    def _load(self, _scope: Scope, _body: bytes) -> tuple[int, bytes, bytes]:
        return 200, dumps({"server_load": self._engine.load}), _JSON

    def _page(self, _scope: Scope, _body: bytes) -> tuple[int, bytes, bytes]:
        return 200, self._metrics.render(self._engine.queued), CONTENT_TYPE_LATEST.encode()

    def _tokenize(self, scope: Scope, body: bytes) -> tuple[int, bytes, bytes]:
        _check_json(scope)
        value = decode(body)
        if isinstance(value, dict) and not value.keys() & {"prompt", "messages"}:
            missing = {"type": "missing", "msg": "Field required", "input": value}
            raise invalid([{**missing, "loc": ("prompt",)}, {**missing, "loc": ("messages",)}])
        if isinstance(value, dict) and "prompt" not in value:
            chat = read(body, TokenizeChatRequest)
            check_model(chat.model, self._spec.name)
            words = [token for message in chat.messages for text in message_texts(message) for token in tokenize(text)]
            extra = chat_tokens(chat.messages, self._spec) - len(words)
            tokens = ["<template>"] * extra + words
            wanted = chat.return_token_strs
        else:
            prompt = read(body, TokenizePromptRequest)
            check_model(prompt.model, self._spec.name)
            tokens = ["<s>", *tokenize(prompt.prompt)]
            wanted = prompt.return_token_strs
        ids = [token_id(token, self._spec.architecture.vocab) for token in tokens]
        strings = tokens if wanted else None
        answer = {"count": len(ids), "max_model_len": self._max_model_len, "tokens": ids, "token_strs": strings}
        return 200, dumps(answer), _JSON


def create_app(settings: ModelSettings) -> SimServer:
    """Return the application; raise SettingsError where the model does not fit its limits."""
    return SimServer(settings)


def _limits(settings: ModelSettings, spec: ModelSpec) -> Limits:
    batched = settings.max_num_batched_tokens or spec.max_num_batched_tokens
    longest = settings.max_model_len or spec.max_model_len
    if longest > spec.architecture.max_positions:
        raise SettingsError(
            f"{spec.name}: max_model_len {longest} is over the {spec.architecture.max_positions} positions of the model"
        )
    kv_tokens = settings.kv_tokens
    if kv_tokens is None:
        kv_tokens = kv_capacity_tokens(spec, find_device(settings.device), spec.memory_limit_bytes, batched)
    if kv_tokens < longest:
        raise SettingsError(
            f"{spec.name}: {kv_tokens} KV tokens do not hold one request of {longest}",
            hint=f"set max_model_len to at most {kv_tokens}",
        )
    return Limits(settings.max_num_seqs or spec.max_num_seqs, batched, kv_tokens)


def _read_key(settings: ModelSettings) -> bytes | None:
    if settings.api_key_env is not None:
        key = os.environ.get(settings.api_key_env, "")
        where = f"the environment variable {settings.api_key_env}"
    elif settings.api_key_file is not None:
        try:
            key = settings.api_key_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SettingsError(f"cannot read the key in {settings.api_key_file}: {error.strerror}") from None
        where = str(settings.api_key_file)
    else:
        return None
    if not key:
        raise SettingsError(f"{settings.service}: {where} holds no key")
    return key.encode()


def _header(scope: Scope, name: bytes) -> bytes:
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return b""


def _check_json(scope: Scope) -> None:
    kind = _header(scope, b"content-type").split(b";")[0].strip().lower()
    if kind != _JSON:
        message = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
        raise ApiError(message, kind="Bad Request")


async def _body(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ApiError("The client went away before its body was complete")
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
