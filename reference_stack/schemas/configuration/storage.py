"""Settings of the storage service."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, HttpUrl, SecretStr, model_validator

from reference_stack.schemas.configuration.base import Secret, ServiceSettings


class StorageSettings(ServiceSettings):
    """Where model artefacts (one folder a model), run folders, and runs kept by content lie.

    Runs are kept in the folder `store` (`embedded`), at `url`, an s3://BUCKET/PREFIX (`external`), or in memory
    (`mock`). `endpoint`, `access_key` and `secret_key` are those of the S3-compatible store; for what is not given the
    AWS variables are asked. A call to it ends within `timeout_s` or so. A folder that is None is not served.
    `least_free_bytes` is the room on disk under which the service is not ready.
    """

    IN_FLIGHT: ClassVar = frozenset({"least_free_bytes"})
    backend: Literal["embedded", "external", "mock"] = "embedded"
    models: Path | None = None
    runs: Path | None = None
    store: Path | None = None
    url: str = Field(default="", pattern=r"^(s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^/].*)?)?$")
    endpoint: HttpUrl | None = None
    access_key: str = ""
    secret_key: Secret = SecretStr("")
    timeout_s: float = Field(default=5.0, gt=0, le=3600)
    least_free_bytes: int = Field(default=1_000_000_000, ge=0)

    @model_validator(mode="after")
    def _addressed(self) -> Self:
        if self.backend == "external" and not self.url:
            raise ValueError("backend external needs the url of the store: s3://BUCKET/PREFIX")
        return self
