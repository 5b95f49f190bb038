"""Settings of the gateway's searches of documents: which stores there are, and where their vectors are kept."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SecretStr

from reference_stack.schemas.configuration.base import Secret, Settings

StoreName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class RetrievalSettings(Settings):
    """The `stores` that clients may search, and the server that speaks Qdrant's API and has them.

    A search takes `timeout_s` at most, and never more than `in_flight` run at once. After `failures` searches in a row
    without an answer none is tried for `open_s`. `mock` keeps vectors in this process, where nothing puts any.
    """

    stores: Annotated[frozenset[StoreName], Field(min_length=1)]
    backend: Literal["external", "mock"] = "external"
    host: str = "127.0.0.1"
    port: int = Field(default=6333, gt=0, lt=65536)
    grpc_port: int = Field(default=6334, gt=0, lt=65536)
    prefer_grpc: bool = True
    api_key: Secret = SecretStr("")
    timeout_s: float = Field(default=1.0, gt=0, le=60)
    in_flight: int = Field(default=64, gt=0)
    failures: int = Field(default=3, ge=1, le=64)
    open_s: float = Field(default=1.0, gt=0, le=3600)
