"""One model server: where it is, and what the gateway says to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from yarl import URL

from reference_stack.schemas.configuration.api_gateway import UpstreamSettings
from reference_stack.services.infrastructure.api_gateway.asked import CHAT, COMPLETIONS

_ROUTES = (CHAT, COMPLETIONS)


@dataclass(frozen=True, slots=True)
class Address:
    """Where connections go to; connections to the same address are shared."""

    host: str
    port: int
    tls: bool


@dataclass(frozen=True, slots=True)
class Backend:
    """`heads` has for each of our routes the head of a request, all but the values of its last two headers."""

    address: Address
    heads: Mapping[str, bytes]
    health: URL
    headers: Mapping[str, str]

    def request(self, route: str, body: bytes, request_id: str) -> bytes:
        """Return the whole request as it goes over the wire."""
        return b"%b%b\r\nContent-Length: %d\r\n\r\n%b" % (self.heads[route], request_id.encode(), len(body), body)


def backend_of(settings: UpstreamSettings) -> Backend:
    """Return the backend at `settings.base_url`."""
    base = URL(str(settings.base_url).rstrip("/"))
    assert base.host is not None  # noqa: S101 - the settings saw to it
    assert base.port is not None  # noqa: S101 - likewise
    headers = {"Content-Type": "application/json", "Accept": "*/*", "Accept-Encoding": "identity"}
    if settings.api_key is not None:
        headers["Authorization"] = f"Bearer {settings.api_key.get_secret_value()}"
    return Backend(
        Address(base.host, base.port, base.scheme == "https"),
        {route: _head(base, base.raw_path + route.removeprefix("/v1"), headers) for route in _ROUTES},
        base.with_path(base.path.removesuffix("/v1") + "/health"),
        headers,
    )


def _head(base: URL, path: str, headers: Mapping[str, str]) -> bytes:
    host = base.host_port_subcomponent or ""
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "X-Request-Id: "]).encode("latin-1")
