"""What the simulated server reads of a request, at the level of ASGI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from reference_stack.services.ai_models.api_error import ApiError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

JSON = b"application/json"


def header(scope: Scope, name: bytes) -> bytes:
    """Return the first value of a header (its name in lower case); empty where there is none."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return b""


def check_json(scope: Scope) -> None:
    """Raise ApiError where the body does not call itself JSON."""
    kind = header(scope, b"content-type").split(b";")[0].strip().lower()
    if kind != JSON:
        message = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
        raise ApiError(message, kind="Bad Request")


async def body_of(receive: Receive) -> bytes:
    """Return the whole body of a request; raise ApiError when the client leaves before."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ApiError("The client went away before its body was complete")
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def gone(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def send_whole(
    send: Send, status: int, body: bytes, headers: Sequence[tuple[bytes, bytes]], kind: bytes = JSON
) -> None:
    """Send a whole answer; one without a body has no content type."""
    known = [(b"content-length", b"%d" % len(body)), *headers]
    if body:
        known.append((b"content-type", kind))
    await send({"type": "http.response.start", "status": status, "headers": known})
    await send({"type": "http.response.body", "body": body})
