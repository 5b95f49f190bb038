"""Answers kept for who asks the same again: a help that may be missing, never a reason to fail."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from reference_stack.services.integration.cache.port import Cache, Unavailable

_MARK_BYTES = 32


class ResponseCache:
    """Answers by the request that they answer, for `ttl_s` seconds; those over `most_bytes` are not kept.

    An answer is kept with the mark of its request, and one with another mark is not given: whatever mixes connections
    or keys up on the way, nobody gets what somebody else asked for. While the cache is out every answer is made.
    """

    def __init__(self, cache: Cache, ttl_s: float, most_bytes: int = 256 * 1024) -> None:
        self._cache = cache
        self._ttl_s = ttl_s
        self._most_bytes = most_bytes

    async def answer(
        self, tenant: str, request: Mapping[str, object], make: Callable[[], Awaitable[bytes]]
    ) -> tuple[bytes, bool]:
        """Return the answer of `tenant` to `request`, and whether it was kept from before; `make` makes one."""
        kept = await self.find(tenant, request)
        if kept is not None:
            return kept, True
        made = await make()
        await self.keep(tenant, request, made)
        return made, False

    async def find(self, tenant: str, request: Mapping[str, object]) -> bytes | None:
        """Return the answer of `tenant` to `request` that was kept, None where there is none."""
        return await self._get(_mark(tenant, request))

    async def keep(self, tenant: str, request: Mapping[str, object], answer: bytes) -> None:
        """Keep an answer, unless it is too large."""
        if len(answer) <= self._most_bytes:
            await self._put(_mark(tenant, request), answer)

    async def _get(self, mark: bytes) -> bytes | None:
        try:
            found = await self._cache.get(f"response:{mark.hex()}")
        except Unavailable:
            return None
        return found[_MARK_BYTES:] if found is not None and found[:_MARK_BYTES] == mark else None

    async def _put(self, mark: bytes, answer: bytes) -> None:
        try:
            await self._cache.put(f"response:{mark.hex()}", mark + answer, self._ttl_s)
        except Unavailable:
            return


def _mark(tenant: str, request: Mapping[str, object]) -> bytes:
    """SHA-256 of both; the order of keys in the request does not count."""
    return hashlib.sha256(msgspec.json.encode([tenant, request], order="deterministic")).digest()
