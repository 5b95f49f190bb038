"""An API key as the gateway knows it: never the key itself, only its keyed hash."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Protocol

ALL_MODELS = "*"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key: `models` names what it may use, or holds "*" for all; `digest` is what `digest_of` makes of the key."""

    id: str
    digest: bytes
    models: frozenset[str]
    tenant: str = ""

    def may_use(self, model: str) -> bool:
        return model in self.models or ALL_MODELS in self.models


class KeyRepository(Protocol):
    """Where keys are kept besides the settings file."""

    async def find_key(self, digest: bytes) -> ApiKey | None:
        """Return the valid key with this digest, None when there is none; raise when the store cannot tell."""
        ...


def digest_of(key: bytes, pepper: bytes) -> bytes:
    """Return HMAC-SHA256 of `key` under `pepper` (32 bytes): of no use to who steals it without the pepper."""
    return hmac.digest(pepper, key, hashlib.sha256)
