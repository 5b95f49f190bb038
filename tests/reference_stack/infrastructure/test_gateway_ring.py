"""What the gateway remembers of keys: changes are obeyed at once, and a store that is out costs nobody time."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from reference_stack.schemas.api.keys import ApiKey
from reference_stack.services.infrastructure.api_gateway.keys.ring import KeyRing, Shown
from reference_stack.services.infrastructure.api_gateway.refusal import Refusal
from tests.reference_stack.infrastructure.conftest import PEPPER, key_of

CAROL = key_of("carol")


@dataclass
class Store:
    """One key, or none; answers when `gate` is open, and can be out."""

    key: ApiKey | None = CAROL
    out: bool = False
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    asked: int = 0

    async def find_key(self, digest: bytes) -> ApiKey | None:
        self.asked += 1
        found = self.key if self.key is not None and self.key.digest == digest else None
        await self.gate.wait()
        if self.out:
            raise ConnectionError
        return found


@dataclass
class Ring:
    """A ring on a clock that stands still, and what each who comes gets."""

    store: Store = field(default_factory=Store)
    now_s: float = 1000.0
    told: bool = False
    fresh_s: int = 30

    def __post_init__(self) -> None:
        self.store.gate.set()
        options = {"fresh_s": self.fresh_s, "stale_s": 300, "told": self.told}
        self.ring = KeyRing((), PEPPER.encode(), self.store, clock=lambda: self.now_s, **options)  # type: ignore[arg-type]  # numbers and a bool, by name

    async def comes(self, key: str = "carol") -> int:
        try:
            await asyncio.create_task(self._admit(key))
        except Refusal as refusal:
            return refusal.status
        return 200

    async def _admit(self, key: str) -> None:
        await self.ring.admit([b"Bearer " + key.encode()])


async def test_a_change_is_obeyed_at_once() -> None:
    """A key that was told to have changed is asked for again, one that was unknown too; until then it is remembered."""
    seen = Ring(told=True)
    seen.ring.watched(True)
    assert [await seen.comes() for _ in range(3)] == [200] * 3
    seen.store.key = None
    assert await seen.comes() == 200
    seen.ring.changed(CAROL.digest)
    assert [await seen.comes() for _ in range(3)] == [401] * 3
    seen.store.key = CAROL
    seen.ring.changed(CAROL.digest)
    assert await seen.comes() == 200
    assert seen.store.asked == 3


async def test_an_answer_from_before_a_change_is_not_remembered() -> None:
    """A key that is revoked while it is being asked for comes in no more than that once."""
    seen = Ring()
    seen.store.gate.clear()
    first = asyncio.create_task(seen.comes())
    while seen.store.asked == 0:  # noqa: ASYNC110 - the store has no way to tell
        await asyncio.sleep(0)
    seen.store.key = None
    seen.ring.changed(CAROL.digest)
    seen.store.gate.set()
    assert await first == 200
    assert await seen.comes() == 401


async def test_while_changes_are_not_told_keys_are_asked_for_twice_a_second() -> None:
    """Without its feed the ring trusts a key for half a second; with it, for `fresh_s`; anew when the feed is back."""
    seen = Ring(told=True)
    assert await seen.comes() == 200
    seen.now_s += 0.49
    assert (await seen.comes(), seen.store.asked) == (200, 1)
    seen.now_s += 0.02
    assert (await seen.comes(), seen.store.asked) == (200, 2)
    seen.now_s += 0.1
    seen.ring.watched(True)
    assert (await seen.comes(), seen.store.asked) == (200, 3)
    seen.now_s += 29
    assert (await seen.comes(), seen.store.asked) == (200, 3)
    seen.ring.watched(False)
    assert (await seen.comes(), seen.store.asked) == (200, 4)


async def test_a_feed_keeps_a_key_right_until_it_is_lost() -> None:
    """How long a key lives without its store counts from when changes were last told, not from when it was found.

    One that was found before the feed was lost and found again is right no later than its own feed was.
    """
    seen = Ring(told=True, fresh_s=3600)
    seen.ring.watched(True)
    assert (await seen.comes(), seen.store.asked) == (200, 1)
    seen.now_s += 1000
    assert (await seen.comes(), seen.store.asked) == (200, 1)
    seen.store.out = True
    seen.ring.watched(False)
    seen.now_s += 299
    assert await seen.comes() == 200
    seen.ring.watched(True)
    assert await seen.comes() == 200
    seen.now_s += 1
    assert await seen.comes() == 503


async def test_what_a_connection_showed_before_decides_nothing() -> None:
    """On one connection each request has its own key: another is another, none is none, and a revoked one is out."""
    store = Store(CAROL)
    store.gate.set()
    ring = KeyRing((key_of("alice"),), PEPPER.encode(), store, fresh_s=0.0)
    shown = Shown()

    async def comes(*keys: bytes) -> str:
        try:
            return (await ring.admit([b"Bearer " + key for key in keys], shown)).id
        except Refusal as refusal:
            return str(refusal.status)

    alice, carol = b"alice", b"carol"
    shows = [(alice,), (alice,), (carol,), (alice,), (carol, carol), (b"mallory",), (b"mallory",), (), (carol,)]
    seen = [await asyncio.create_task(comes(*keys)) for keys in shows]
    assert seen == ["alice", "alice", "carol", "alice", "401", "401", "401", "401", "carol"]
    store.key = None
    assert await asyncio.create_task(comes(carol)) == "401"


async def test_many_who_come_at_once_ask_once() -> None:
    """Fifty requests with a key that is not remembered cost one question."""
    seen = Ring()
    assert await asyncio.gather(*(seen.comes() for _ in range(50))) == [200] * 50
    assert seen.store.asked == 1


async def test_a_store_that_hangs_costs_known_keys_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A known key waits once for a moment; then it comes in at once, for `stale_s`, with one line in the log."""
    caplog.set_level(logging.INFO)
    seen = Ring()
    assert await seen.comes() == 200
    seen.store.gate.clear()
    seen.now_s += 31
    assert await seen.comes() == 200
    began = time.perf_counter()
    assert [await seen.comes() for _ in range(100)] == [200] * 100
    assert time.perf_counter() - began < 100 * 0.02
    seen.store.out = True
    seen.store.gate.set()
    seen.now_s += 268
    assert await seen.comes() == 200
    seen.now_s += 2
    assert [await seen.comes() for _ in range(3)] == [503] * 3
    seen.store.out = False
    assert await seen.comes() == 200
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_a_change_while_the_store_is_out_lets_nobody_in() -> None:
    """A key that is known to have changed has no grace."""
    seen = Ring()
    assert await seen.comes() == 200
    seen.store.out = True
    seen.ring.changed(CAROL.digest)
    assert await seen.comes() == 503


async def test_an_expired_key_is_out_on_time() -> None:
    """Expiry is looked at for every request, not when a key is asked for."""
    now = datetime.now(UTC)
    seen = Ring(Store(replace(CAROL, expires=now + timedelta(hours=1))))
    assert await seen.comes() == 200
    seen.ring._wall = (now + timedelta(hours=1)).timestamp
    assert await seen.comes() == 401
    assert seen.store.asked == 1
