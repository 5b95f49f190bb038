"""What all connections of clients share: the story behind them, and the bounds that hold for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reference_stack.schemas.configuration.api_gateway import LimitSettings
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
        self.connections = 0
        self._defaults: Sequence[tuple[bytes, bytes]] = ()
        self._default_lines = b""

    @property
    def limits(self) -> LimitSettings:
        return self.story.limits

    def default_lines(self, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        """Return uvicorn's own headers as lines; it replaces the list once a second, for the date."""
        if headers is not self._defaults:
            self._defaults = headers
            self._default_lines = lines(headers)
        return self._default_lines


def lines(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    return b"".join([b"%b: %b\r\n" % header for header in headers])
