"""One span a request, where traces are configured: W3C trace context in and out, gen_ai semantic conventions.

Spans hold no prompt, no key and no text of a model. https://opentelemetry.io/docs/specs/semconv/gen-ai/ has the names.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from reference_stack.errors import SettingsError
from reference_stack.schemas.configuration.traces import TraceSettings
from reference_stack.services.infrastructure.api_gateway.call import Call


class Traces(Protocol):
    """Follows requests."""

    def begin(self, call: Call, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Follow `call`, whose request has these headers: `call.carried` is then for the model's server."""
        ...

    async def close(self) -> None:
        """Send what is held, for 2 s at most."""
        ...


def traces_to(settings: TraceSettings) -> Traces | None:
    """Return what follows requests, None where that is not configured: then nothing is imported.

    Raises SettingsError when what it needs is not installed.
    """
    if settings.endpoint is None:
        return None
    try:
        from reference_stack.services.infrastructure.api_gateway.spans import Spans
    except ImportError as error:
        hint = "pip install 'hxp-enterprise-llm-modular[otel]', or leave traces.endpoint out"
        raise SettingsError(f"api_gateway: traces need a package that is not here: {error.name}", hint=hint) from None
    return Spans(settings)
