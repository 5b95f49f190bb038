"""One model server: where it is, and what the gateway says to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from yarl import URL

from reference_stack.schemas.configuration.api_gateway import UpstreamSettings
from reference_stack.services.infrastructure.api_gateway.asked import CHAT, COMPLETIONS

_ROUTES = (CHAT, COMPLETIONS)


@dataclass(frozen=True, slots=True)
class Backend:
    """`routes` says where it has each of our routes; `headers` are those that the gateway itself sends."""

    routes: Mapping[str, URL]
    health: URL
    headers: Mapping[str, str]


def backend_of(settings: UpstreamSettings) -> Backend:
    """Return the backend at `settings.base_url`."""
    base = URL(str(settings.base_url).rstrip("/"))
    headers = {"Content-Type": "application/json", "Accept": "*/*", "Accept-Encoding": "identity"}
    if settings.api_key is not None:
        headers["Authorization"] = f"Bearer {settings.api_key.get_secret_value()}"
    routes = {route: base.with_path(base.path + route.removeprefix("/v1")) for route in _ROUTES}
    return Backend(routes, base.with_path(base.path.removesuffix("/v1") + "/health"), headers)
