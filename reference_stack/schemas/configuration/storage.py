"""Settings of the storage service."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from reference_stack.schemas.configuration.base import ServiceSettings


class StorageSettings(ServiceSettings):
    """Where model artefacts (one folder a model), run folders, and runs kept by content (`store`) lie.

    A folder that is None is not served. `least_free_bytes` is the room on disk under which the service is not ready.
    """

    IN_FLIGHT: ClassVar = frozenset({"least_free_bytes"})
    models: Path | None = None
    runs: Path | None = None
    store: Path | None = None
    least_free_bytes: int = Field(default=1_000_000_000, ge=0)
