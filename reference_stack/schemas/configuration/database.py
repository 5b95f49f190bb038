"""Settings of the database service."""

from __future__ import annotations

from typing import ClassVar, Literal
from urllib.parse import quote

from pydantic import Field, SecretStr

from reference_stack.schemas.configuration.base import Secret, ServiceSettings


class DatabaseSettings(ServiceSettings):
    """Where PostgreSQL is and how long we wait for it.

    `embedded` and `external` speak to the server at `host`:`port` and differ in who starts it; `mock` keeps
    everything in memory.
    """

    IN_FLIGHT: ClassVar = frozenset(
        {"host", "port", "database", "user", "password", "connection_pool_size", "connect_s", "acquire_s", "command_s"}
    )
    backend: Literal["embedded", "external", "mock"] = "embedded"
    host: str = "127.0.0.1"
    port: int = Field(default=5433, gt=0, lt=65536)
    database: str = "citadel_ai"
    user: str = "citadel"
    password: Secret = SecretStr("")
    connection_pool_size: int = Field(default=20, gt=0, le=1000)
    connect_s: float = Field(default=2.0, gt=0)
    acquire_s: float = Field(default=2.0, gt=0)
    command_s: float = Field(default=5.0, gt=0)
    migrate: bool = True

    @property
    def dsn(self) -> str:
        """The connection URL, password included: never log it."""
        password = self.password.get_secret_value()
        secret = f":{quote(password, safe='')}" if password else ""
        return f"postgresql://{quote(self.user, safe='')}{secret}@{self.host}:{self.port}/{self.database}"
