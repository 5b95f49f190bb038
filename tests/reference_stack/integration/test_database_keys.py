"""The contract of the database, its keys and their budgets: one suite over mock, embedded and external."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from reference_stack.schemas.api.keys import ApiKey, KeyLimits, StoredKey
from reference_stack.services.integration.database.memory import MemoryDatabase
from reference_stack.services.integration.database.port import (
    Database,
    Drawn,
    Unavailable,
)
from tests.reference_stack.integration.database_cases import NOON, Heard, key, until


async def test_a_key_is_found_by_its_digest(database: Database) -> None:
    """A key that was put is found by its digest, and only by it."""
    await database.keys.put(key())
    assert await database.keys.find_key(key().key.digest) == key().key
    assert await database.keys.find_key(b"?" * 32) is None


async def test_a_revoked_key_is_not_found(database: Database) -> None:
    """A revoked key is invalid from then on, and still listed."""
    await database.keys.put(key())
    assert await database.keys.revoke("k1")
    assert not await database.keys.revoke("k2")
    assert await database.keys.find_key(key().key.digest) is None
    assert [stored.revoked for stored in await database.keys.all_keys()] == [True]


@pytest.mark.parametrize(("left_s", "found"), [(3600, True), (-1, False)])
async def test_an_expired_key_is_not_found(database: Database, left_s: int, found: bool) -> None:
    """A key is valid until its expiry and not after."""
    await database.keys.put(key(expires=datetime.now(UTC) + timedelta(seconds=left_s)))
    assert (await database.keys.find_key(key().key.digest) is not None) == found


async def test_putting_a_key_again_replaces_it(database: Database) -> None:
    """The same id twice is one key, the later one."""
    await database.keys.put(key())
    changed = key(name="second", expires=NOON + timedelta(days=36500))
    await database.keys.put(changed)
    assert await database.keys.all_keys() == [changed]


async def test_a_key_comes_back_as_it_was_put(database: Database) -> None:
    """Limits, what may be kept, the former secret: all of a key is stored, and found by its id."""
    full = key(
        limits=KeyLimits(60, 10_000, 4, 2**40),
        answers="exact",
        expires=NOON + timedelta(days=36500),
        former_digest=b"f" * 32,
        former_until=NOON,
    )
    assert await database.keys.add(full)
    assert await database.keys.find("k1") == full
    assert await database.keys.find_key(full.key.digest) == full.key
    assert await database.keys.find("k2") is None


async def test_a_key_is_added_once(database: Database) -> None:
    """A key of an id that is taken is not added, and changes nothing."""
    assert await database.keys.add(key())
    assert not await database.keys.add(key(digest=b"other".ljust(32), name="second"))
    assert await database.keys.all_keys() == [key()]


async def test_a_former_secret_lives_until_its_time(database: Database) -> None:
    """After a rotation the former digest finds the same key until its time, and not after, nor when it is revoked."""
    soon = datetime.now(UTC) + timedelta(hours=1)
    await database.keys.put(key(former_digest=b"f" * 32, former_until=soon))
    assert await database.keys.find_key(b"f" * 32) == replace(key().key, digest=b"f" * 32, expires=soon)
    await database.keys.put(key(former_digest=b"f" * 32, former_until=soon, expires=soon - timedelta(minutes=1)))
    found = await database.keys.find_key(b"f" * 32)
    assert found is not None
    assert found.expires == soon - timedelta(minutes=1)
    await database.keys.put(key(former_digest=b"f" * 32, former_until=soon - timedelta(hours=2)))
    assert await database.keys.find_key(b"f" * 32) is None
    await database.keys.put(key(former_digest=b"f" * 32, former_until=soon, revoked=True))
    assert await database.keys.find_key(b"f" * 32) is None


async def test_changes_at_once_are_all_made(database: Database) -> None:
    """Twenty who change one key at the same time lose no change; what raises changes nothing; no key is no key."""
    await database.keys.put(key(limits=KeyLimits(0)))

    def more(stored: StoredKey) -> StoredKey:
        asked = (stored.key.limits.requests_per_minute or 0) + 1
        return replace(stored, key=replace(stored.key, limits=KeyLimits(asked)))

    def refuse(stored: StoredKey) -> StoredKey:
        raise ValueError(stored.name)

    await asyncio.gather(*(database.keys.change("k1", more) for _ in range(20)))
    with pytest.raises(ValueError, match="first"):
        await database.keys.change("k1", refuse)
    changed = await database.keys.find("k1")
    assert changed is not None
    assert changed.key.limits == KeyLimits(20)
    assert await database.keys.change("k2", more) is None


async def test_keys_come_in_pages(database: Database) -> None:
    """A page begins after an id, has so many keys at most, and those of one tenant where one is named."""
    for name in ("b", "a", "B", "c"):
        await database.keys.put(key(name, tenant="blue" if name == "b" else "red"))
    assert [stored.key.id for stored in await database.keys.page("", 2)] == ["B", "a"]
    assert [stored.key.id for stored in await database.keys.page("a", 9)] == ["b", "c"]
    assert [stored.key.id for stored in await database.keys.page("", 9, "red")] == ["B", "a", "c"]


@pytest.mark.owasp("API6:2023", "LLM10:2025")
async def test_a_budget_is_never_exceeded(database: Database) -> None:
    """Fifty draws at once take no more than the budget together, and come to its end; what is given back is there."""
    draws = await asyncio.gather(*(database.spend.draw("k1", 1000, 0, 7, 7, 100) for _ in range(50)))
    assert all(draw.given == 0 or draw.given >= 7 for draw in draws)
    taken = sum(draw.given for draw in draws)
    assert 1000 - 7 * 16 < taken <= 1000
    assert await database.spend.spent("k1") == taken
    assert await database.spend.draw("k1", 1000, -taken, 1, 1, 1) == Drawn(1, 999)
    assert await database.spend.draw("k1", 1000, 2000, 1, 1, 1) == Drawn(0, 0)
    await database.spend.set_spent("k1", 5)
    assert (await database.spend.spent("k1"), await database.spend.spent("k2")) == (5, 0)


async def test_changes_of_keys_are_told(database: Database) -> None:
    """Who follows hears that it is told, then of a key added, changed, and of both its secrets when it is rotated."""
    heard = Heard()
    follower = asyncio.create_task(database.feed.follow(heard))
    await until(lambda: heard.states == [True])
    await database.keys.add(key())
    await until(lambda: key().key.digest in heard.digests)
    for change in (key(revoked=True), key(digest=b"n" * 32, former_digest=key().key.digest, former_until=NOON)):
        heard.digests.clear()
        await database.keys.put(change)
        await until(lambda: key().key.digest in heard.digests)
    await until(lambda: b"n" * 32 in heard.digests)
    follower.cancel()
    await asyncio.gather(follower, return_exceptions=True)


async def test_keys_are_listed_in_order(database: Database) -> None:
    """Keys come in the order of their ids, upper case before lower."""
    for name in ("b", "a", "B"):
        await database.keys.put(key(name))
    stored = [StoredKey(ApiKey(n, n.encode().ljust(32, b"."), frozenset({"*"}), "acme"), "first") for n in "Bab"]
    assert await database.keys.all_keys() == stored


async def test_many_keys_are_asked_for_at_once(database: Database) -> None:
    """A hundred look-ups of one moment have each its own answer: the key, by its former secret too, or none."""
    for number in range(50):
        await database.keys.put(key(f"k{number}"))
    later = datetime.now(UTC) + timedelta(hours=1)
    await database.keys.put(key("turned", former_digest=b"f" * 32, former_until=later))
    asked = [f"k{number}".encode().ljust(32, b".") for number in range(100)] + [b"f" * 32]
    found = await asyncio.gather(*(database.keys.find_key(digest) for digest in asked))

    assert [each and each.id for each in found] == [f"k{n}" for n in range(50)] + [None] * 50 + ["turned"]
    assert [each.digest for each in found if each is not None] == [*asked[:50], b"f" * 32]


async def test_many_draws_at_once_are_exact_each(database: Database) -> None:
    """Draws on many budgets, and many on one, go together and never take more than there is."""
    on_one = [database.spend.draw("one", 100, 0, 1, 7, 7) for _ in range(20)]
    on_many = [database.spend.draw(f"k{number}", number, 0, 1, 3, 3) for number in range(20)]
    drawn = await asyncio.gather(*on_one, *on_many)

    assert sum(each.given for each in drawn[:20]) == 100
    assert [each.given for each in drawn[20:]] == [min(number, 3) for number in range(20)]
    assert await database.spend.spent("k9") == 3


async def test_an_outage_is_said_to_be_one() -> None:
    """The database in memory, told to be out, raises what the real one raises."""
    database = MemoryDatabase()
    database.outage = True
    assert "out" in await database.ping()
    with pytest.raises(Unavailable):
        await database.keys.find_key(b"")
