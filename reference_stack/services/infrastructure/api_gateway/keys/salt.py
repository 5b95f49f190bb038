"""A salt for each tenant's prefix cache: what one asked is not to be told by another from how soon it is answered."""

from __future__ import annotations

import hashlib
import hmac

from reference_stack.schemas.api.keys import ApiKey

_BYTES = 16


class Salts:
    """The `cache_salt` of a tenant's requests: the same for all its keys, of no use to guess the tenant from.

    Keys without a tenant have none, and share what the model's server remembers with each other.
    """

    def __init__(self, pepper: bytes, models: frozenset[str]) -> None:
        """`models` are those whose servers take a salt."""
        self._pepper = pepper
        self._models = models
        self._known: dict[str, bytes] = {}

    def __call__(self, key: ApiKey, model: str) -> bytes:
        """Return the salt in hexadecimal, b"" for none."""
        if not key.tenant or model not in self._models:
            return b""
        salt = self._known.get(key.tenant)
        if salt is None:
            digest = hmac.digest(self._pepper, b"cache_salt:" + key.tenant.encode(), hashlib.sha256)
            salt = self._known[key.tenant] = digest[:_BYTES].hex().encode()
        return salt
