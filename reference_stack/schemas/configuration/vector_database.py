"""Settings of the vector database service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, SecretStr

from reference_stack.schemas.configuration.base import Secret, ServiceSettings, Settings


class CollectionSettings(Settings):
    """A collection that the service makes, and how it may be asked: with `tenant`, the payload's field that says whose
    a point is, it is searched for one tenant at a time and never without.
    """

    size: int = Field(gt=0, le=65_536)
    distance: Literal["cosine", "dot", "euclid", "manhattan"] = "cosine"
    words: bool = False
    indexed: dict[str, Literal["keyword", "integer"]] = Field(default_factory=dict)
    tenant: str = Field(default="", max_length=100)


class VectorDatabaseSettings(ServiceSettings):
    """Where a server that speaks Qdrant's API is.

    `embedded` serves that API itself, from Qdrant's engine inside this process, on `port` and `grpc_port`, with its
    data in `folder` (None: a temporary one).
    """

    IN_FLIGHT: ClassVar = frozenset({"prefer_grpc", "api_key", "timeout_s", "collections"})
    backend: Literal["embedded", "external", "mock"] = "embedded"
    host: str = "127.0.0.1"
    port: int = Field(default=6333, gt=0, lt=65536)
    grpc_port: int = Field(default=6334, gt=0, lt=65536)
    prefer_grpc: bool = True
    api_key: Secret = SecretStr("")
    timeout_s: float = Field(default=5.0, gt=0)
    folder: Path | None = None
    collections: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$")], CollectionSettings] = Field(
        default_factory=dict
    )

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"
