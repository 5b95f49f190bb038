"""Settings of the configuration service."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, HttpUrl, model_validator

from reference_stack.schemas.configuration.base import ServiceSettings


class ConfigurationSettings(ServiceSettings):
    """Where the layers of everybody's configuration are; later ones win.

    The services' own defaults, `environment_file`, `host_file`, variables `<variable_prefix>SERVICE__KEY=VALUE`, then
    `assignments` "SERVICE.KEY=VALUE". A file is a mapping from a service to its settings; values are YAML. Every
    `watch_s` seconds the files are looked at, and read again when they changed; 0: only when told to.

    With backend `external` another configuration service, at `url`, has it all and is asked so often, `timeout_s` a
    time; `mock` has the defaults.
    """

    IN_FLIGHT: ClassVar = frozenset({"watch_s"})
    backend: Literal["embedded", "external", "mock"] = "embedded"
    environment_file: Path | None = None
    host_file: Path | None = None
    variable_prefix: str = Field(default="HXP_STACK_", pattern=r"^[A-Z][A-Z0-9_]*_$")
    assignments: tuple[str, ...] = ()
    watch_s: float = Field(default=2.0, ge=0, le=3600)
    url: HttpUrl | None = None
    timeout_s: float = Field(default=5.0, gt=0, le=3600)

    @model_validator(mode="after")
    def _addressed(self) -> Self:
        if self.backend == "external" and self.url is None:
            raise ValueError("backend external needs the url of the other configuration service")
        return self
