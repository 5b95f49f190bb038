"""Keys, rows and somebody who listens: what the tests of the database use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from reference_stack.schemas.api.keys import ApiKey, StoredKey
from reference_stack.schemas.api.usage import UsageRow

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

DAY = (NOON - timedelta(hours=12), NOON + timedelta(hours=12))


def key(key_id: str = "k1", **changes: object) -> StoredKey:
    plain = ApiKey(key_id, key_id.encode().ljust(32, b"."), frozenset({"*"}), "acme")
    of_key = {name: changes.pop(name) for name in ApiKey.__slots__ if name in changes}
    changed = replace(plain, **of_key)  # type: ignore[arg-type]  # fields of the dataclass, by name
    return replace(StoredKey(changed, name="first"), **changes)  # type: ignore[arg-type]  # likewise


def row(number: int = 1, **changes: object) -> UsageRow:
    accepted_at_s = NOON.timestamp() + number
    base = UsageRow(
        f"r{number:04}", "", "k1", "acme", "mixtral", "chat", "complete", 200, True, 10, 5, True, accepted_at_s, 0.5
    )
    return replace(base, **changes)  # type: ignore[arg-type]  # fields of the dataclass, by name


class Heard:
    """What a feed told."""

    def __init__(self) -> None:
        self.digests: list[bytes] = []
        self.states: list[bool] = []

    def changed(self, digest: bytes) -> None:
        self.digests.append(digest)

    def watched(self, watched: bool) -> None:
        self.states.append(watched)


async def until(true: Callable[[], bool], within_s: float = 60.0) -> None:
    """Wait until it is true, or fail."""
    async with asyncio.timeout(within_s):
        while not true():  # noqa: ASYNC110 - what is waited for tells nobody else
            await asyncio.sleep(0.005)
