"""Settings of the cache service."""

from __future__ import annotations

from typing import ClassVar, Literal
from urllib.parse import quote

from pydantic import Field, SecretStr

from reference_stack.schemas.configuration.base import Secret, ServiceSettings


class CacheSettings(ServiceSettings):
    """Where the Redis-protocol server is, and the deadlines that keep its outage cheap for callers.

    `command_s` bounds a whole call: the wait for a connection, making one, the command and its second try. On the path
    of requests 0.02 keeps an outage under 20 ms a call.
    """

    IN_FLIGHT: ClassVar = frozenset(
        {"host", "port", "index", "password", "namespace", "connections", "connect_s", "command_s"}
    )
    backend: Literal["embedded", "external", "mock"] = "embedded"
    host: str = "127.0.0.1"
    port: int = Field(default=6379, gt=0, lt=65536)
    index: int = Field(default=0, ge=0, le=15)
    password: Secret = SecretStr("")
    namespace: str = Field(default="hxp", pattern=r"^[a-z0-9_-]{1,40}$")
    connections: int = Field(default=32, gt=0, le=1000)
    connect_s: float = Field(default=0.25, gt=0)
    command_s: float = Field(default=0.25, gt=0)

    @property
    def url(self) -> str:
        """The connection URL, password included: never log it."""
        password = self.password.get_secret_value()
        secret = f":{quote(password, safe='')}@" if password else ""
        return f"redis://{secret}{self.host}:{self.port}/{self.index}"
