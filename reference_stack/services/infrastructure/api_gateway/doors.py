"""Who may read the metrics: everybody, whoever comes in at their own door, or whoever has their key."""

from __future__ import annotations

import hmac
from collections.abc import Callable

from starlette.requests import Request

from reference_stack.place import DOOR
from reference_stack.schemas.configuration.process import MetricsDoorSettings
from reference_stack.services.infrastructure.api_gateway.refusal import Refusal

METRICS = "metrics"


def metrics_guard(settings: MetricsDoorSettings) -> Callable[[Request], None]:
    """Return what lets a request for the metrics in or raises Refusal: with a port of their own they are only there."""
    wanted = None if settings.key is None else b"Bearer " + settings.key.get_secret_value().encode()

    def admit(request: Request) -> None:
        if settings.port is not None and request.scope.get(DOOR) != METRICS:
            raise Refusal(404, "not_found", "there is no such route here")
        given = [value for name, value in request.scope["headers"] if name == b"authorization"]
        if wanted is not None and not (len(given) == 1 and hmac.compare_digest(given[0], wanted)):
            raise Refusal(401, "invalid_api_key", "the metrics need their key")

    return admit
