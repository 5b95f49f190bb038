"""The outermost layer: gives each request its id, turns what goes wrong into an answer, counts and logs once."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Iterable

import msgspec
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reference_stack.services.infrastructure.api_gateway.call import Call, begin
from reference_stack.services.infrastructure.api_gateway.measures import Measures
from reference_stack.services.infrastructure.api_gateway.presence import ClientGone
from reference_stack.services.infrastructure.api_gateway.refusal import JSON, Refusal
from reference_stack.services.infrastructure.api_gateway.usage import UsageLog

log = logging.getLogger(__name__)

_CLIENT_GONE = 499
_QUIET = ("/health", "/metrics")


class Edge:
    """Pure ASGI, so that a disconnect reaches what it wraps."""

    def __init__(
        self, app: ASGIApp, *, routes: Iterable[str], header_bytes: int, measures: Measures, usage: UsageLog
    ) -> None:
        self._app = app
        self._routes = frozenset(routes)
        self._header_bytes = header_bytes
        self._measures = measures
        self._usage = usage

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        given = next((value for name, value in headers if name == b"x-request-id"), None)
        path = scope["path"]
        call = begin(scope, path if path in self._routes else "other", given)
        request_id = (b"x-request-id", call.shown_id.encode())

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                call.status = message["status"]
                call.first_byte_s = time.perf_counter() - call.began_s
                message["headers"] = [*message["headers"], request_id]
            await send(message)

        try:
            self._check_head(headers)
            await self._app(scope, receive, send_marked)
        except (ClientGone, ClientDisconnect):
            call.status = call.status or _CLIENT_GONE
            call.error = "client_gone"
        except Refusal as refusal:
            await _refuse(refusal, call, send_marked)
        except Exception as error:  # noqa: BLE001 - a client is told of any mistake of ours in the same shape
            _log_mistake(error, call)
            await _refuse(Refusal(500, "internal_error", "the gateway made a mistake"), call, send_marked)
        finally:
            self._settle(call)

    def _check_head(self, headers: list[tuple[bytes, bytes]]) -> None:
        size = hosts = 0
        for name, value in headers:
            size += len(name) + len(value)
            hosts += name == b"host"
        if size > self._header_bytes:
            raise Refusal(431, "headers_too_large", f"the headers are larger than {self._header_bytes} bytes")
        if hosts != 1:
            raise Refusal(400, "invalid_host", "the request must have one Host header", param="Host")

    def _settle(self, call: Call) -> None:
        took_s = time.perf_counter() - call.began_s
        self._measures.done(call, took_s)
        row = call.row()
        if row is not None:
            self._usage.put(row)
        level = logging.DEBUG if call.route.startswith(_QUIET) else logging.INFO
        if log.isEnabledFor(level):
            log.log(level, "%s", _line(call, took_s))


async def _refuse(refusal: Refusal, call: Call, send: Send) -> None:
    if call.started:
        return
    call.error = refusal.code
    body = refusal.body(call.shown_id)
    headers = [(b"content-type", JSON), (b"content-length", str(len(body)).encode()), *refusal.headers().items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _log_mistake(error: Exception, call: Call) -> None:
    # The message of an exception may hold what the client sent; where it was raised does not.
    frame = traceback.extract_tb(error.__traceback__)[-1]
    log.error("request %s: %s at %s:%s", call.id, type(error).__name__, frame.filename, frame.lineno)


def _line(call: Call, took_s: float) -> str:
    """Return the one line that is logged of a request; it holds no prompt, key or token text."""
    usage = call.usage
    first_byte_s = None if call.first_byte_s is None else round(call.first_byte_s, 6)
    return msgspec.json.encode(
        {
            "event": "request",
            "id": call.id,
            "client_id": call.client_id,
            "route": call.route,
            "key": "" if call.key is None else call.key.id,
            "model": call.model,
            "stream": call.stream,
            "status": call.status,
            "error": call.error,
            "outcome": call.outcome,
            "prompt_tokens": None if usage is None else usage.prompt_tokens,
            "output_tokens": call.output_tokens,
            "first_byte_s": first_byte_s,
            "took_s": round(took_s, 6),
        }
    ).decode()
