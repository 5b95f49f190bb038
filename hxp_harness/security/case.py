"""One hostile request and the class of answer that is right for it."""

from __future__ import annotations

import enum
import json
from collections.abc import Callable
from dataclasses import dataclass

from hxp_harness.target import Target

CANARY = "hxp-canary-3f9c1e7a"  # stands in every hostile text; no answer may say it


class Expected(enum.StrEnum):
    """What a sound server may do. A 5xx, silence or an echo is never right."""

    ACCEPTED = "accepted"  # 200
    REFUSED = "refused"  # 4xx with an OpenAI-shaped error
    TOLERATED = "tolerated"  # either
    BROKEN_OFF = "broken off"  # 4xx of any shape, or the connection is closed: below HTTP there is no JSON


@dataclass(frozen=True, slots=True)
class Case:
    """A hostile request: `build` writes its bytes for a target."""

    name: str
    expected: Expected
    build: Callable[[Target], bytes]
    secrets: tuple[str, ...] = (CANARY,)  # what the answer must not say


def request_of(
    target: Target,
    headers: tuple[bytes, ...],
    body: bytes,
    *,
    route: str = "POST chat/completions",
    query: str = "",
    host: bytes = b"",
) -> bytes:
    """Return a request of `route` below the base URL with `headers` lines as they are; the rest is sound."""
    method, _, name = route.partition(" ")
    path = target.base_url.split("://", 1)[1].partition("/")[2]
    lines = (
        f"{method} /{path}/{name}{query} HTTP/1.1".encode(),
        b"host: " + (host or f"{target.host}:{target.port}".encode()),
        b"content-type: application/json",
        b"content-length: %d" % len(body),
        b"connection: close",
        *headers,
    )
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def sound_body(target: Target) -> dict[str, object]:
    """Return a request that every server accepts."""
    return {"model": target.api_model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 1}


def sound_bytes(target: Target) -> bytes:
    """Return the bytes of `sound_body`."""
    return json.dumps(sound_body(target)).encode()


def key_header(target: Target) -> tuple[bytes, ...]:
    """Return the header with the target's key, or none where it has none."""
    return (b"authorization: Bearer " + target.api_key.encode(),) if target.api_key else ()
