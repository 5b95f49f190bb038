"""What all connections of clients share: the story behind them, and the bounds that hold for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from reference_stack.schemas.configuration.api_gateway import LimitSettings
from reference_stack.services.infrastructure.api_gateway.refusal import JSON, Refusal
from reference_stack.services.infrastructure.api_gateway.settlement import Settlement
from reference_stack.services.infrastructure.api_gateway.story import Story
from reference_stack.services.infrastructure.api_gateway.wire.pool import Pool


class Door:
    """`routes` are the URLs whose requests take the short way, by their bytes on the wire; none where it is off."""

    def __init__(self, story: Story, pool: Pool, settlement: Settlement, routes: Sequence[str]) -> None:
        self.story = story
        self.pool = pool
        self.settlement = settlement
        self.routes: Mapping[bytes, str] = {route.encode(): route for route in routes}
        self.limits: LimitSettings = story.limits
        self.connections = 0
        self._defaults: Sequence[tuple[bytes, bytes]] = ()
        self._default_lines = b""

    def default_lines(self, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        """Return uvicorn's own headers as lines; it replaces the list once a second, for the date."""
        if headers is not self._defaults:
            self._defaults = headers
            self._default_lines = lines(headers)
        return self._default_lines


def lines(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    parts: list[bytes] = []
    for name, value in headers:
        parts += (name, b": ", value, b"\r\n")  # formatting each would take three times as long
    return b"".join(parts)


@lru_cache(maxsize=16)
def fixed_lines(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return the lines of headers of which there are only a few."""
    return lines(headers)


def refusal_bytes(refusal: Refusal, shown_id: str, defaults: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return the whole answer to what is no request for the application; the connection closes behind it."""
    body = refusal.body(shown_id)
    headers = [
        *defaults,
        (b"content-type", JSON),
        (b"content-length", b"%d" % len(body)),
        *refusal.headers().items(),
        (b"x-request-id", shown_id.encode()),
        (b"connection", b"close"),
    ]
    return b"%b%b\r\n%b" % (STATUS_LINE[refusal.status], lines(headers), body)
