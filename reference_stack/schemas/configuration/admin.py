"""Settings of the gateway's admin API."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Self

from pydantic import SecretStr, model_validator

from reference_stack.schemas.configuration.base import Secret, Settings

_LEAST_CHARACTERS = 24


class AdminSettings(Settings):
    """`token` opens the admin API to who comes from one of `networks`; it is to be no key of a client."""

    token: Secret
    networks: tuple[str, ...] = ("127.0.0.0/8", "::1/128")

    @model_validator(mode="after")
    def _strong(self) -> Self:
        token: SecretStr = self.token
        if len(token.get_secret_value()) < _LEAST_CHARACTERS:
            raise ValueError(f"the token is shorter than {_LEAST_CHARACTERS} characters")
        for network in self.networks:
            ip_network(network)
        return self
