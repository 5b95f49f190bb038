"""The life of keys: made, changed, given a new secret, revoked. The secret is told once and kept nowhere."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from reference_stack.errors import SettingsError
from reference_stack.schemas.api.key_admin import ChangedKey, NewKey, Rotation
from reference_stack.schemas.api.keys import StoredKey, digest_of
from reference_stack.services.integration.database.port import KeyStore, SpendStore

# Secret scanners find a key by how it begins.
PREFIX = "hxp-"
_SECRET_BYTES = 32


class NoSuchKey(SettingsError):
    """There is no key of that id."""


class KeyTaken(SettingsError):
    """There is a key of that id already."""


class KeyRevoked(SettingsError):
    """The key is revoked, for good."""


@dataclass(frozen=True, slots=True)
class Made:
    """A key and its secret, which nobody will be told again."""

    stored: StoredKey
    secret: str


def _now() -> datetime:
    return datetime.now(UTC)


class Keeper:
    """Keeps the keys of one store under one pepper. Raises the store's Unavailable while it is out."""

    def __init__(self, keys: KeyStore, spend: SpendStore, pepper: bytes, now: Callable[[], datetime] = _now) -> None:
        self._keys = keys
        self._spend = spend
        self._pepper = pepper
        self._now = now

    async def create(self, new: NewKey) -> Made:
        """Make a key. Raises KeyTaken."""
        key_id = new.id or f"key-{secrets.token_hex(6)}"
        secret, digest = self._secret()
        stored = new.stored(key_id, digest)
        if not await self._keys.add(stored):
            raise KeyTaken(f"there is a key {key_id!r} already", hint="choose another id, or give none")
        return Made(stored, secret)

    async def change(self, key_id: str, changed: ChangedKey) -> StoredKey:
        """Put a key under other terms. Raises NoSuchKey, and KeyRevoked."""
        stored = await self._alter(key_id, changed.of)
        if changed.budget_taken is not None:
            await self._spend.set_spent(key_id, changed.budget_taken)
        return stored

    async def rotate(self, key_id: str, rotation: Rotation) -> Made:
        """Give a key a new secret. Raises NoSuchKey, and KeyRevoked."""
        secret, digest = self._secret()

        def turn(stored: StoredKey) -> StoredKey:
            if rotation.grace_s == 0:
                return replace(stored, key=replace(stored.key, digest=digest), former_digest=None, former_until=None)
            until = self._now() + timedelta(seconds=rotation.grace_s)
            key = replace(stored.key, digest=digest)
            return replace(stored, key=key, former_digest=stored.key.digest, former_until=until)

        return Made(await self._alter(key_id, turn), secret)

    async def revoke(self, key_id: str) -> StoredKey:
        """End a key for good, its former secret too. Raises NoSuchKey."""
        if not await self._keys.revoke(key_id):
            raise await self._missing(key_id)
        return await self.find(key_id)

    async def find(self, key_id: str) -> StoredKey:
        """Return a key. Raises NoSuchKey."""
        stored = await self._keys.find(key_id)
        if stored is None:
            raise await self._missing(key_id)
        return stored

    async def page(self, after: str, limit: int, tenant: str | None) -> list[StoredKey]:
        return await self._keys.page(after, limit, tenant)

    async def taken(self, key_id: str) -> int:
        """Return the tokens taken of a key's budget."""
        return await self._spend.spent(key_id)

    async def _alter(self, key_id: str, alter: Callable[[StoredKey], StoredKey]) -> StoredKey:
        def living(stored: StoredKey) -> StoredKey:
            if stored.revoked:
                raise KeyRevoked(f"the key {key_id!r} is revoked, and stays so", hint="make another")
            return alter(stored)

        stored = await self._keys.change(key_id, living)
        if stored is None:
            raise await self._missing(key_id)
        return stored

    async def _missing(self, key_id: str) -> NoSuchKey:
        """Return the error that names the nearest ids: those that begin alike."""
        near = await self._keys.page(key_id[:3], 5, None)
        names = ", ".join(stored.key.id for stored in near)
        return NoSuchKey(f"there is no key {key_id!r}", hint=f"near it: {names}" if names else "")

    def _secret(self) -> tuple[str, bytes]:
        secret = PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
        return secret, digest_of(secret.encode(), self._pepper)
