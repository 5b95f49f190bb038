"""What somebody wants to run: which services, on which engine, where the stack may keep its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from reference_stack.catalogue import closure, load_catalogue
from reference_stack.errors import SettingsError, nearest
from reference_stack.schemas.configuration.workload import Contract

Engine = Literal["sim", "vllm"]
Weights = Literal["real", "dummy", "tiny"]
Ports = Literal["documented", "free"]
MODELS = "ai_models"


@dataclass(frozen=True, slots=True)
class Want:
    """`services` empty: all twelve. `folder` gets logs, settings, data and state; `cache` what stacks share.

    With `mock` the integration services keep everything in memory and no server of theirs is started. `options`
    are settings for the models (`device`, `speed`, ...); `upstream`: the base URL (it ends in /v1) of a server that
    stands for every model behind the gateway, and then only the services that are named run; `limits`: off leaves all
    cores and all memory to every process. With a `contract` the wanted models say whether they can meet it.
    `environment` and `host_file` are files with the settings of services.
    """

    folder: Path
    cache: Path
    services: tuple[str, ...] = ()
    engine: Engine = "sim"
    weights: Weights = "real"
    ports: Ports = "documented"
    mock: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    contract: Contract | None = None
    environment: Path | None = None
    host_file: Path | None = None

    def __post_init__(self) -> None:
        for name in self.services:
            if name not in load_catalogue():
                raise SettingsError(f"no service {name!r}", hint=nearest(name, load_catalogue()))
        if self.options.get("limits", "on") not in ("on", "off"):
            raise SettingsError(f"limits={self.options['limits']} is neither on nor off", hint="--set limits=off")

    @property
    def names(self) -> tuple[str, ...]:
        """The services that run: those wanted and all that they need, needs first."""
        wanted = self.services or tuple(load_catalogue())
        return wanted if self.upstream else closure(wanted)

    @property
    def upstream(self) -> str:
        """The server that stands for every model, or empty."""
        return self.options.get("upstream", "")

    @property
    def limited(self) -> bool:
        """Whether processes are held to the cores and the memory of the catalogue."""
        return self.options.get("limits", "on") == "on"

    @property
    def device(self) -> str:
        """The device. A gateway wanted alone is what is measured, so its simulated models must cost nothing."""
        costless = self.engine == "sim" and self.services == ("api_gateway",)
        return self.options.get("device", "ideal" if costless else "h200")
