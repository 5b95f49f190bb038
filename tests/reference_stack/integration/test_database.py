"""The contract of the database, its usage log: one suite over mock, embedded PostgreSQL and one that is not ours."""

from __future__ import annotations

import asyncio
from dataclasses import astuple, replace
from datetime import UTC, datetime

import asyncpg
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference_stack.schemas.api.usage import UsageRow, WrittenRows
from reference_stack.schemas.configuration.database import DatabaseSettings
from reference_stack.services.integration.database.memory import MemoryDatabase
from reference_stack.services.integration.database.port import (
    Database,
    RowsRefused,
    UsageSum,
    UsageTotal,
)
from reference_stack.services.integration.database.postgres import PostgresDatabase
from tests.reference_stack.integration.database_cases import DAY, NOON, row


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
