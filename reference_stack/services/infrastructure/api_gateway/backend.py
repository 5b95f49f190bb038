"""One model server: where it is, and what the gateway says to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from yarl import URL

from reference_stack.schemas.configuration.upstream import BackendSettings, Route, UpstreamSettings
from reference_stack.services.infrastructure.api_gateway.asked import RELAYED

# The least that can be asked of each route, the cheapest first.
_LEAST: Mapping[Route, tuple[str, Mapping[str, object]]] = {
    "completions": ("/completions", {"prompt": "a", "max_tokens": 1}),
    "chat": ("/chat/completions", {"messages": [{"role": "user", "content": "a"}], "max_tokens": 1}),
    "embeddings": ("/embeddings", {"input": "a"}),
}


class Address(NamedTuple):
    """Where connections go to; connections to the same address are shared."""

    host: str
    port: int
    tls: bool


@dataclass(frozen=True, slots=True)
class Backend:
    """`heads` has for each of our routes the head of a request, all but the values of its last two headers.

    `name` is host and port, as logs and labels show it. `question` is where the gateway asks for as little as
    there is on its own account, and `asks` what, beside the model.
    """

    name: str
    address: Address
    heads: Mapping[str, bytes]
    health: URL
    headers: Mapping[str, str]
    question: URL
    asks: Mapping[str, object]

    def request(self, route: str, body: bytes, request_id: str) -> bytes:
        """Return the whole request as it goes over the wire."""
        head = self.heads[route]
        return b"".join((head, request_id.encode(), b"\r\nContent-Length: %d\r\n\r\n" % len(body), body))


def backends_of(settings: UpstreamSettings) -> tuple[Backend, ...]:
    """Return the model's backends; of two at the same host and port, the names end in #1 and #2."""
    places = [URL(str(each.base_url)).host_port_subcomponent or "" for each in settings.servers]
    names = [
        place if places.count(place) == 1 else f"{place}#{places[:number].count(place) + 1}"
        for number, place in enumerate(places)
    ]
    asked = min(settings.routes, key=list(_LEAST).index)
    return tuple(backend_of(each, name, asked) for each, name in zip(settings.servers, names, strict=True))


def backend_of(settings: BackendSettings, name: str = "", asked: Route = "completions") -> Backend:
    """Return the backend at `settings.base_url`."""
    base = URL(str(settings.base_url).rstrip("/"))
    assert base.host is not None  # noqa: S101 - the settings saw to it
    assert base.port is not None  # noqa: S101 - likewise
    headers = {"Content-Type": "application/json", "Accept": "*/*", "Accept-Encoding": "identity"}
    if settings.api_key is not None:
        headers["Authorization"] = f"Bearer {settings.api_key.get_secret_value()}"
    return Backend(
        name,
        Address(base.host, base.port, base.scheme == "https"),
        {route: _head(base, base.raw_path + route.removeprefix("/v1"), headers) for route in RELAYED},
        base.with_path(base.path.removesuffix("/v1") + "/health"),
        headers,
        base.with_path(base.path + _LEAST[asked][0]),
        _LEAST[asked][1],
    )


def _head(base: URL, path: str, headers: Mapping[str, str]) -> bytes:
    host = base.host_port_subcomponent or ""
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "X-Request-Id: "]).encode("latin-1")
