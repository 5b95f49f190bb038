"""Who may administer: whoever has the token, and comes from where the settings allow."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Coroutine
from ipaddress import ip_address, ip_network

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from reference_stack.schemas.configuration.admin import AdminSettings
from reference_stack.services.infrastructure.api_gateway.refusal import Refusal

PREFIX = "/admin"


class Door:
    """Compares tokens as hashes, in constant time whatever their length."""

    def __init__(self, settings: AdminSettings) -> None:
        self._token = _hash(settings.token.get_secret_value().encode())
        self._networks = [ip_network(network) for network in settings.networks]

    def check(self, request: Request) -> None:
        """Raise Refusal 404 to who comes from elsewhere, as if there were no such route, and 401 without the token."""
        host = "" if request.client is None else request.client.host
        if not any(_is_address(host) and ip_address(host) in network for network in self._networks):
            raise Refusal(404, "not_found", "there is no such route here")
        given = [value for name, value in request.scope["headers"] if name == b"authorization"]
        scheme, _, token = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(_hash(token), self._token):
            raise Refusal(401, "invalid_admin_token", "the admin API needs its token: `Authorization: Bearer TOKEN`")


def admin_router(settings: AdminSettings) -> APIRouter:
    """Return a router whose every route asks for the token first; what is added to it needs no check of its own."""
    door = Door(settings)

    class Guarded(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[None, None, Response]]:
            handle = super().get_route_handler()

            async def check_first(request: Request) -> Response:
                door.check(request)
                return await handle(request)

            return check_first

    return APIRouter(prefix=PREFIX, tags=["admin"], route_class=Guarded)


def _hash(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
