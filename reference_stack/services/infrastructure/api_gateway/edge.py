"""The outermost layer: gives each request its id, and turns what goes wrong into an answer."""

from __future__ import annotations

import time
from collections.abc import Mapping

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reference_stack.services.infrastructure.api_gateway.asgi import ClientGone
from reference_stack.services.infrastructure.api_gateway.call import Call, begin
from reference_stack.services.infrastructure.api_gateway.head import Head, pairs_in
from reference_stack.services.infrastructure.api_gateway.mistake import log_mistake, our_mistake
from reference_stack.services.infrastructure.api_gateway.refusal import JSON, Refusal
from reference_stack.services.infrastructure.api_gateway.settlement import Settlement

CLIENT_GONE = 499


class Edge:
    """Pure ASGI, so that a disconnect reaches what it wraps."""

    def __init__(self, app: ASGIApp, *, routes: Mapping[str, str], header_bytes: int, settlement: Settlement) -> None:
        """`routes` has the paths that are served, and what each is called where requests are counted."""
        self._app = app
        self._routes = routes
        self._header_bytes = header_bytes
        self._settlement = settlement

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        head = Head(scope["headers"])
        call = begin(scope, self._routes.get(scope["path"], "other"), head.first(b"x-request-id"))
        request_id = (b"x-request-id", call.shown_id.encode())

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                call.status = message["status"]
                call.first_byte_s = time.perf_counter() - call.began_s
                message["headers"] = [*message["headers"], *pairs_in(call.lines), request_id]
            await send(message)

        try:
            head.check(self._header_bytes)
            await self._app(scope, receive, send_marked)
        except (ClientGone, ClientDisconnect):
            call.status = call.status or CLIENT_GONE
            call.error = "client_gone"
        except Refusal as refusal:
            await _refuse(refusal, call, send_marked)
        except Exception as error:  # noqa: BLE001 - a client is told of any mistake of ours in the same shape
            log_mistake(error, call)
            await _refuse(our_mistake(), call, send_marked)
        finally:
            self._settlement.settle(call)


async def _refuse(refusal: Refusal, call: Call, send: Send) -> None:
    if call.started:
        return
    call.error = refusal.code
    body = refusal.body(call.shown_id)
    headers = [(b"content-type", JSON), (b"content-length", str(len(body)).encode()), *refusal.headers().items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
