"""Settings of the configuration service."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from reference_stack.schemas.configuration.base import ServiceSettings


class ConfigurationSettings(ServiceSettings):
    """Where the layers of everybody's configuration are; later ones win.

    The services' own defaults, `environment_file`, `host_file`, variables `<variable_prefix>SERVICE__KEY=VALUE`, then
    `assignments` "SERVICE.KEY=VALUE". A file is a mapping from a service to its settings; values are YAML. Every
    `watch_s` seconds the files are looked at, and read again when they changed; 0: only when told to.
    """

    IN_FLIGHT: ClassVar = frozenset({"watch_s"})
    environment_file: Path | None = None
    host_file: Path | None = None
    variable_prefix: str = Field(default="HXP_STACK_", pattern=r"^[A-Z][A-Z0-9_]*_$")
    assignments: tuple[str, ...] = ()
    watch_s: float = Field(default=2.0, ge=0, le=3600)
