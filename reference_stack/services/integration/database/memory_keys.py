"""API keys, their changes, and what they have spent, in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from reference_stack.schemas.api.keys import Alter, ApiKey, KeyListener, StoredKey
from reference_stack.services.integration.database.port import Drawn, share_of


class MemoryKeys:
    """See port.KeyStore and port.KeyFeed; `check` raises while the database is told to be out."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._keys: dict[str, StoredKey] = {}
        self._listeners: set[KeyListener] = set()

    async def find_key(self, digest: bytes) -> ApiKey | None:
        self._check()
        now = datetime.now(UTC)
        for stored in self._keys.values():
            former = stored.former_digest == digest and stored.former_until is not None and stored.former_until > now
            if (stored.key.digest == digest or former) and not stored.revoked:
                return None if stored.key.expired(now.timestamp()) else stored.as_shown(digest)
        return None

    async def find(self, key_id: str) -> StoredKey | None:
        self._check()
        return self._keys.get(key_id)

    async def add(self, stored: StoredKey) -> bool:
        self._check()
        if stored.key.id in self._keys:
            return False
        await self.put(stored)
        return True

    async def put(self, stored: StoredKey) -> None:
        self._check()
        before = self._keys.get(stored.key.id, stored)
        self._keys[stored.key.id] = stored
        told = {before.key.digest, before.former_digest, stored.key.digest, stored.former_digest} - {None}
        for listener in self._listeners:
            for digest in told:
                listener.changed(digest or b"")

    async def change(self, key_id: str, alter: Alter) -> StoredKey | None:
        self._check()
        if key_id not in self._keys:
            return None
        altered = alter(self._keys[key_id])
        await self.put(altered)
        return altered

    async def revoke(self, key_id: str) -> bool:
        return await self.change(key_id, lambda stored: replace(stored, revoked=True)) is not None

    async def all_keys(self) -> list[StoredKey]:
        self._check()
        return [self._keys[key_id] for key_id in sorted(self._keys)]

    async def page(self, after: str, limit: int, tenant: str | None = None) -> list[StoredKey]:
        found = [stored for stored in await self.all_keys() if stored.key.id > after]
        return [stored for stored in found if tenant is None or stored.key.tenant == tenant][:limit]

    async def follow(self, listener: KeyListener) -> None:
        """See KeyFeed."""
        self._listeners.add(listener)
        listener.watched(True)
        try:
            await asyncio.Event().wait()
        finally:
            self._listeners.discard(listener)
            listener.watched(False)


class MemorySpend:
    """See port.SpendStore."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._spent: dict[str, int] = {}

    async def draw(self, key_id: str, budget: int, owed: int, least: int, want: int, most: int) -> Drawn:
        self._check()
        spent = max(self._spent.get(key_id, 0) + owed, 0)
        given = share_of(budget - spent, least, want, most)
        self._spent[key_id] = spent + given
        return Drawn(given, max(budget - spent - given, 0))

    async def spent(self, key_id: str) -> int:
        self._check()
        return self._spent.get(key_id, 0)

    async def set_spent(self, key_id: str, tokens: int) -> None:
        self._check()
        self._spent[key_id] = tokens
