"""Settings of the vector database service."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from reference_stack.schemas.configuration.base import Secret, Settings


class VectorDatabaseSettings(Settings):
    """Where a server that speaks Qdrant's API is.

    `embedded` serves that API itself, from Qdrant's engine inside this process, on `port` and `grpc_port`, with its
    data in `folder` (None: a temporary one).
    """

    backend: Literal["embedded", "external", "mock"] = "embedded"
    host: str = "127.0.0.1"
    port: int = Field(default=6333, gt=0, lt=65536)
    grpc_port: int = Field(default=6334, gt=0, lt=65536)
    prefer_grpc: bool = True
    api_key: Secret = SecretStr("")
    timeout_s: float = Field(default=5.0, gt=0)
    folder: Path | None = None

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"
