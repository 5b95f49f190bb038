"""The contract of the database: one suite over the mock, the embedded PostgreSQL and one that is not ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import astuple, replace
from datetime import UTC, datetime, timedelta

import asyncpg
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference_stack.schemas.api.keys import ApiKey, KeyLimits, StoredKey
from reference_stack.schemas.api.runs import JudgedRun, Run, RunVerdict
from reference_stack.schemas.api.usage import UsageRow, WrittenRows
from reference_stack.schemas.configuration.database import DatabaseSettings
from reference_stack.services.integration.database.memory import MemoryDatabase
from reference_stack.services.integration.database.port import (
    Database,
    Drawn,
    RowsRefused,
    Unavailable,
    UsageSum,
    UsageTotal,
)
from reference_stack.services.integration.database.postgres import PostgresDatabase

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
DAY = (NOON - timedelta(hours=12), NOON + timedelta(hours=12))


@pytest.fixture(params=["mock", "embedded", "external"])
async def database(request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    """An empty database on each leg."""
    if request.param == "mock":
        yield MemoryDatabase()
        return
    where = request.getfixturevalue("postgres" if request.param == "embedded" else "external_postgres")
    store = PostgresDatabase(where)
    assert await store.ping() == ""
    connection = await asyncpg.connect(where.dsn)
    await connection.execute("TRUNCATE api_key, key_spend, usage, run, verdict")
    await connection.close()
    yield store
    await store.close()


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


class Heard:
    """What a feed told."""

    def __init__(self) -> None:
        self.digests: list[bytes] = []
        self.states: list[bool] = []

    def changed(self, digest: bytes) -> None:
        self.digests.append(digest)

    def watched(self, watched: bool) -> None:
        self.states.append(watched)


async def until(true: Callable[[], bool]) -> None:
    """Wait until it is true, or fail."""
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - what is waited for tells nobody else
            await asyncio.sleep(0.005)


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


async def test_rows_are_stored_once(database: Database) -> None:
    """Adding a row again, with others or alone, changes nothing."""
    await database.usage.add([row(1), row(2)])
    await database.usage.add([row(2, model="other"), row(3)])
    await database.usage.add([])
    assert await database.usage.request_ids(*DAY) == ["r0001", "r0002", "r0003"]
    totals = await database.usage.totals(*DAY)
    assert totals == [UsageTotal("k1", "mixtral", 3, 30, 15)]


async def test_totals_are_per_key_and_model_and_time(database: Database) -> None:
    """Sums are by key and model, take unknown prompts as none, and hold only rows of the time asked for."""
    rows = [row(1), row(2, key_id="k0"), row(3, model="phi3", prompt_tokens=None), row(90_000)]
    await database.usage.add(rows)
    assert await database.usage.totals(*DAY) == [
        UsageTotal("k0", "mixtral", 1, 10, 5),
        UsageTotal("k1", "mixtral", 1, 10, 5),
        UsageTotal("k1", "phi3", 1, 0, 5),
    ]
    assert await database.usage.key_totals("k0", *DAY) == [UsageTotal("k0", "mixtral", 1, 10, 5)]
    assert await database.usage.key_totals("k2", *DAY) == []


async def test_sums_tell_how_requests_ended(database: Database) -> None:
    """What was used is told by key, tenant and model, with how it ended and how much of it the model reported."""
    rows = [
        row(1),
        row(2, outcome="interrupted", exact=False, prompt_tokens=None),
        row(3, outcome="cancelled"),
        row(4, outcome="failed", tenant="other"),
        row(90_000),
    ]
    await database.usage.add(rows)
    assert await database.usage.sums(*DAY) == [
        UsageSum("k1", "acme", "mixtral", 3, 1, 1, 1, 0, 1, 20, 15),
        UsageSum("k1", "other", "mixtral", 1, 0, 0, 0, 1, 0, 10, 5),
    ]


async def test_what_is_stored_is_known(database: Database) -> None:
    """Of ids those are told that have a row."""
    await database.usage.add([row(1), row(2)])
    assert await database.usage.known([row(2).request_id, "nobody's"]) == {row(2).request_id}
    assert await database.usage.known([]) == set()


@pytest.mark.parametrize(
    "bad",
    [row(2, client_request_id="nul\0"), row(2, output_tokens=-1), row(2, request_id=""), row(2, outcome="lost")],
)
async def test_a_bad_row_costs_no_good_one(database: Database, bad: UsageRow) -> None:
    """Of many rows with a bad one among them all good ones are stored, and the bad one is named."""
    with pytest.raises(RowsRefused) as caught:
        await database.usage.add([row(1), bad, row(3)])
    assert caught.value.rows == (bad,)
    assert await database.usage.request_ids(*DAY) == ["r0001", "r0003"]


async def test_a_thousand_rows_at_once(database: Database) -> None:
    """Rows come in any number."""
    await database.usage.add([row(number) for number in range(1000)])
    assert len(await database.usage.request_ids(*DAY)) == 1000


COUNTS = st.integers(-2, 2**64) | st.integers(-2, 100)
TEXTS = st.text(st.characters(), max_size=8) | st.just("x" * 201) | st.just("\ud800")
ANY_ROW = st.builds(
    row,
    st.integers(0, 10**6),
    request_id=TEXTS.filter(bool) | st.uuids().map(str),
    client_request_id=TEXTS,
    outcome=st.sampled_from(["complete", "cancelled", "Complete"]),
    status=st.integers(90, 610) | st.sampled_from([200, 2**40]),
    prompt_tokens=st.none() | COUNTS,
    output_tokens=COUNTS,
    took_s=st.floats(),
    accepted_at_s=st.floats(0, 4e9) | st.sampled_from([-1e15, 1e12, float("nan"), float("inf")]),
)


@settings(max_examples=50, deadline=None)
@given(rows=st.lists(ANY_ROW, max_size=6))
def test_the_mock_refuses_what_postgresql_refuses(postgres: DatabaseSettings, rows: list[UsageRow]) -> None:
    """Whatever rows come, mock and PostgreSQL take the same, refuse the same and add up to the same."""

    async def story(database: Database) -> tuple[object, ...]:
        refused: tuple[UsageRow, ...] = ()
        try:
            await database.usage.add(rows)
        except RowsRefused as error:
            refused = error.rows
        always = (datetime(1900, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC))
        ids, totals = await database.usage.request_ids(*always), await database.usage.totals(*always)
        return [repr(row) for row in refused], sorted(ids), totals

    async def both() -> None:
        real = PostgresDatabase(postgres)
        await real.usage.request_ids(*DAY)
        connection = await asyncpg.connect(postgres.dsn)
        await connection.execute("TRUNCATE usage")
        await connection.close()
        seen = await story(real)
        await real.close()
        assert await story(MemoryDatabase()) == seen

    asyncio.run(both())


def judged(run_id: str = "run-1", *, started: datetime = NOON, service: str = "mixtral", **said: object) -> JudgedRun:
    run = Run(
        id=run_id,
        started=started,
        profile="mixtral",
        service=service,
        evidence="simulated",
        metrics={"e2e": 0.93, "ttft": None},
    )
    base: dict[str, object] = {"outcome": "PASS", "reasons": ("p95 is 0.93 s",), "judged": NOON}
    return JudgedRun(run=run, verdict=RunVerdict.model_validate(base | said))


async def test_a_run_is_found_as_it_was_recorded(database: Database) -> None:
    """A run comes back with all that was said of it; one that nobody recorded is none."""
    await database.runs.record(judged())
    assert await database.runs.find("run-1") == judged()
    assert await database.runs.find("run-2") is None
    assert await database.runs.verdicts("run-2") == []


async def test_every_verdict_of_a_run_is_kept_once(database: Database) -> None:
    """Judging again adds a verdict where it differs from the last, and nothing where it does not."""
    story = [judged(), judged(judged=NOON + timedelta(hours=1)), judged(outcome="FAIL"), judged()]
    for step in story:
        await database.runs.record(step)
    assert [verdict.outcome for verdict in await database.runs.verdicts("run-1")] == ["PASS", "FAIL", "PASS"]
    latest = await database.runs.find("run-1")
    assert latest is not None
    assert latest.verdict == judged().verdict


async def test_verdicts_at_once_are_all_kept_in_a_row(database: Database) -> None:
    """Many who judge one run at the same time lose no verdict."""
    await asyncio.gather(*(database.runs.record(judged(reasons=(f"reason {n}",))) for n in range(20)))
    kept = {verdict.reasons[0] for verdict in await database.runs.verdicts("run-1")}
    assert kept == {f"reason {n}" for n in range(20)}


async def test_recent_runs_come_latest_first(database: Database) -> None:
    """The latest runs come first, those of one service where one is named, no more than were asked for."""
    for hour, (name, service) in enumerate([("a", "mixtral"), ("b", "phi3"), ("B", "mixtral"), ("c", "mixtral")]):
        started = NOON + timedelta(hours=min(hour, 1))
        await database.runs.record(judged(name, started=started, service=service))
    assert [found.run.id for found in await database.runs.recent(10)] == ["c", "b", "B", "a"]
    assert [found.run.id for found in await database.runs.recent(2, "mixtral")] == ["c", "B"]


async def test_an_outage_is_said_to_be_one() -> None:
    """The database in memory, told to be out, raises what the real one raises."""
    database = MemoryDatabase()
    database.outage = True
    assert "out" in await database.ping()
    with pytest.raises(Unavailable):
        await database.keys.find_key(b"")


def written(rows: list[UsageRow]) -> WrittenRows:
    """Return the rows as a journal has them."""
    texts = [msgspec.json.encode(["final", *astuple(each)]) for each in rows]
    return WrittenRows(texts, lambda text: rows[texts.index(text)])


async def test_rows_that_were_written_down_are_stored_as_rows_are(database: Database) -> None:
    """JSON or columns: the table and its sums are the same, and a row that is there already stays as it is."""
    odd = 'quotes " \\ and \u00fc, \U0001f600\n'
    rows = [
        row(1, client_request_id=odd, key_id="k2", outcome="interrupted", prompt_tokens=None, exact=False),
        row(2, output_tokens=2**61, took_s=1 / 3, accepted_at_s=NOON.timestamp() + 0.123456),
        row(3, status=500, stream=False, cached=True),
    ]
    await database.usage.add(written(rows[:2]))
    await database.usage.add(written(rows))
    sums = await database.usage.sums(*DAY)
    ids = await database.usage.request_ids(*DAY)

    other = [replace(each, request_id=f"x{each.request_id}") for each in rows]
    await database.usage.add(other)

    assert ids == ["r0002", "r0001", "r0003"]
    doubled = await database.usage.sums(*DAY)
    assert [(2 * each.requests, 2 * each.output_tokens, 2 * each.inexact) for each in sums] == [
        (each.requests, each.output_tokens, each.inexact) for each in doubled
    ]


async def test_one_written_row_that_is_refused_spoils_no_other(database: Database) -> None:
    """A number too large, or a character that the table cannot hold, costs its own row alone."""
    bad = [row(2, output_tokens=2**70), row(4, tenant="a\0b")]
    with pytest.raises(RowsRefused) as refused:
        await database.usage.add(written([row(1), bad[0], row(3), bad[1]]))

    assert list(refused.value.rows) == bad
    assert await database.usage.request_ids(*DAY) == ["r0001", "r0003"]


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
