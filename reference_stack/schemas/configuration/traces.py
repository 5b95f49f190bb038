"""Settings of traces."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, HttpUrl

from reference_stack.schemas.configuration.base import Settings


class TraceSettings(Settings):
    """Where spans go over OTLP/HTTP, for example http://127.0.0.1:4318/v1/traces; without an `endpoint`, nowhere.

    Of requests that come without a trace, the share `sample` is traced; a trace that a client began goes on as the
    client decided. Spans wait in a queue of `most_held`, are sent every `every_s`, and are dropped when they cannot be.
    """

    endpoint: HttpUrl | None = None
    sample: Annotated[float, Field(ge=0, le=1)] = 1.0
    service_name: str = "hxp-api-gateway"
    every_s: Annotated[float, Field(gt=0, le=3600)] = 5.0
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 5.0
    most_held: Annotated[int, Field(gt=0)] = 4096
