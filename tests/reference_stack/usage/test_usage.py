"""`hxp-stack usage` tells what was used, of whom, of what, and what is on its way; and what is wrong in words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference_stack.__main__ import main
from reference_stack.errors import SettingsError
from reference_stack.schemas.api.keys import ApiKey
from reference_stack.schemas.api.usage import UsageRow
from reference_stack.schemas.configuration.api_gateway import JournalSettings
from reference_stack.schemas.configuration.database import DatabaseSettings
from reference_stack.services.infrastructure.api_gateway.call import Call
from reference_stack.services.infrastructure.api_gateway.journal.book import Book
from reference_stack.services.infrastructure.api_gateway.journal.lane import segments
from reference_stack.services.infrastructure.api_gateway.journal.parked import park
from reference_stack.services.infrastructure.api_gateway.journal.survey import written
from reference_stack.services.integration.database.port import UsageSum, summed
from reference_stack.services.integration.database.postgres import PostgresDatabase
from reference_stack.usage.moment import moment
from reference_stack.usage.report import Report, as_table, merged, total

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
NO_GATEWAY = "hxp-stack up starts one; for another gateway: hxp-stack usage --settings FILE"
ROW = UsageRow("r1", "", "alice", "red", "mixtral", "chat", "complete", 200, True, 10, 5, True, NOON.timestamp(), 0.5)


def told(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["usage", *words])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def gateway(postgres: DatabaseSettings, tmp_path: Path) -> Path:
    """The settings of a gateway whose database is real and empty, and whose journal is in `tmp_path`."""
    asyncio.run(_store(postgres, []))
    file = tmp_path / "gateway.json"
    pepper = tmp_path / "pepper"
    pepper.write_text("a pepper for tests alone")
    file.write_text(
        json.dumps(
            {
                "database_dsn": postgres.dsn,
                "pepper_file": str(pepper),
                "journal": {"directory": str(tmp_path / "journal")},
            }
        )
    )
    return file


async def _store(postgres: DatabaseSettings, rows: Sequence[UsageRow]) -> None:
    database = PostgresDatabase(postgres)
    await database.usage.known([])
    connection = await asyncpg.connect(postgres.dsn)
    await connection.execute("TRUNCATE usage")
    await connection.close()
    await database.usage.add(rows)
    await database.close()


ROWS = (
    ROW,
    replace(ROW, request_id="r2", outcome="interrupted", exact=False, prompt_tokens=None, output_tokens=2),
    replace(ROW, request_id="r3", key_id="bob", tenant="", model="phi3", accepted_at_s=NOON.timestamp() + 3600),
)


def test_a_table_by_key_tenant_and_model(
    gateway: Path, postgres: DatabaseSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each line has who, what, how it ended and what it cost; the last one is the sum."""
    asyncio.run(_store(postgres, ROWS))

    code, out, _ = told(capsys, "--settings", str(gateway))

    lines = [line.split() for line in out.splitlines()]
    assert code == 0
    assert lines[0][:8] == ["key", "tenant", "model", "requests", "complete", "interrupted", "cancelled", "failed"]
    assert lines[1] == ["alice", "red", "mixtral", "2", "1", "1", "0", "0", "1", "10", "7"]
    assert lines[2] == ["bob", "-", "phi3", "1", "1", "0", "0", "0", "0", "10", "5"]
    assert lines[3] == ["total", "3", "2", "1", "0", "0", "1", "20", "12"]
    assert out.splitlines()[4] == "in the journal, not stored yet: 0 that ended, 0 open or cut off"


def test_json_of_a_time(gateway: Path, postgres: DatabaseSettings, capsys: pytest.CaptureFixture[str]) -> None:
    """A program reads the same, of the time and by the names that it asks for."""
    asyncio.run(_store(postgres, ROWS))
    when = ("--since", "2026-11-26T12:30", "--until", "2026-11-27")

    code, out, _ = told(capsys, "--settings", str(gateway), "--by", "model", "--json", *when)

    found = json.loads(out)
    assert code == 0
    assert [(row["model"], row["requests"]) for row in found["rows"]] == [("phi3", 1)]
    assert "key" not in found["rows"][0]
    assert found["total"]["output_tokens"] == 5
    assert found["since"] == "2026-11-26T12:30:00+00:00"
    assert found["journal"] == {"directory": str(gateway.parent / "journal"), "ended": 0, "open": 0, "parked": 0}


def leave(directory: Path) -> None:
    """A journal as a dead gateway leaves it: one request ended, one is open."""
    book = Book(directory, JournalSettings(directory=directory), most_open=8)
    assert book.recover()
    for name, ends in (("r1", True), ("r9", True), ("r10", False)):
        call = Call(name, "", "/v1/completions")
        call.key, call.model = ApiKey("alice", b"", frozenset({"*"}), "red"), "mixtral"
        book.accept(call)
        if ends:
            call.outcome, call.status = "complete", 200
            book.final(call)
    book.close()
    book.leave()


def test_what_waits_is_told(gateway: Path, postgres: DatabaseSettings, capsys: pytest.CaptureFixture[str]) -> None:
    """What the journal has and the database has not is counted; what is stored already is not counted twice."""
    asyncio.run(_store(postgres, ROWS))  # r1 among them
    leave(gateway.parent / "journal")
    park(gateway.parent / "journal", [replace(ROW, request_id="bad")])

    _, out, _ = told(capsys, "--settings", str(gateway))

    assert "in the journal, not stored yet: 1 that ended, 1 open or cut off" in out
    assert f"refused by the database: 1, kept in {gateway.parent / 'journal' / 'parked'}" in out


def test_parked_rows_are_stored_when_they_can_be(
    gateway: Path, postgres: DatabaseSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the database takes by now is stored, once however often; what it does not take stays and is counted."""
    asyncio.run(_store(postgres, []))
    (gateway.parent / "journal").mkdir()
    park(gateway.parent / "journal", [ROW, replace(ROW, request_id="bad", output_tokens=-1)])

    for _ in range(2):
        code, out, err = told(capsys, "--settings", str(gateway), "--store-parked", "--json")
        found = json.loads(out)
        assert code == 0
        assert "of 2 parked rows 1 are stored, 1 are refused again: 1 usage rows are refused" in err
        assert (found["total"]["requests"], found["journal"]["parked"]) == (1, 1)


def test_without_its_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A database that is down is an error that says how much waits for it, and what to type."""
    file = tmp_path / "gateway.json"
    pepper = tmp_path / "pepper"
    pepper.write_text("a pepper for tests alone")
    settings: dict[str, object] = {"database_dsn": "postgresql://a@127.0.0.1:1/b", "pepper_file": str(pepper)}
    file.write_text(json.dumps(settings))
    code, _, err = told(capsys, "--settings", str(file))
    assert code == 5
    assert "PostgreSQL cannot be asked" in err

    leave(tmp_path / "journal")
    file.write_text(json.dumps(settings | {"journal": {"directory": str(tmp_path / "journal")}}))
    code, _, err = told(capsys, "--settings", str(file))
    assert code == 5
    assert "up to 2 requests that ended and 1 that are open wait for it" in err


def test_mistakes_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong times, a folder in which no gateway was, and one without a database: each says what to do."""
    folder = ("--folder", str(tmp_path))
    assert told(capsys, *folder) == (
        5,
        "",
        f"hxp-stack: no gateway was ever started in {tmp_path}\n  {NO_GATEWAY}\n",
    )
    code, _, err = told(capsys, *folder, "--since", "yesterdy")
    assert (code, "--since 'yesterdy' is no time" in err, "24h" in err) == (2, True, True)
    code, _, err = told(capsys, *folder, "--since", "1h", "--until", "2h")
    assert (code, "--since 1h is not before --until 2h" in err) == (2, True)
    (tmp_path / "settings").mkdir()
    (tmp_path / "settings" / "api_gateway.json").write_text("{}")
    code, _, err = told(capsys, *folder)
    assert (code, "give it database_dsn" in err) == (2, True)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2026-11-26", NOON.replace(hour=0)),
        ("2026-11-26T13:00+01:00", NOON),
        ("2026-11-26 12:00", NOON),
        ("30m", NOON - timedelta(minutes=30)),
        ("1.5h", NOON - timedelta(minutes=90)),
        ("2w", NOON - timedelta(days=14)),
    ],
)
def test_times_as_people_type_them(text: str, found: datetime) -> None:
    """A date, a date and time, or how long ago."""
    assert moment("--since", text, NOON) == found


@pytest.mark.parametrize("text", ["", "h", "-1h", "99999999999w", "26.11.2026", "tomorrow"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(SettingsError, match="is no time"):
        moment("--until", text, NOON)


names = st.sampled_from(["", "a", "b"])
outcomes = st.sampled_from(["complete", "interrupted", "cancelled", "failed"])


@settings(deadline=None)  # a busy machine is no failure
@given(
    st.lists(
        st.builds(
            lambda key, tenant, model, outcome, tokens: replace(
                ROW, key_id=key, tenant=tenant, model=model, outcome=outcome, output_tokens=tokens
            ),
            names,
            names,
            names,
            outcomes,
            st.integers(0, 100),
        )
    ),
    st.sets(st.sampled_from(["key", "tenant", "model"]), min_size=1),
)
def test_however_it_is_grouped_it_adds_up(rows: list[UsageRow], by: set[str]) -> None:
    """Sums by fewer names have the same total, and one line for each name that there is."""
    sums = summed(rows)

    grouped = merged(sums, tuple(by))

    assert total(grouped) == total(sums)
    assert total(sums).requests == len(rows)
    assert total(sums).output_tokens == sum(row.output_tokens for row in rows)
    fields = {"key": "key_id", "tenant": "tenant", "model": "model"}
    assert len(grouped) == len({tuple(getattr(row, fields[name]) for name in sorted(by)) for row in rows})


def test_nothing_used_is_said() -> None:
    """An empty table is words."""
    assert as_table(Report([], None, None, None), ("key",)) == "no usage in that time"
    assert merged([UsageSum("k", "t", "m", 1, 1, 0, 0, 0, 0, 1, 1)], ("key",))[0].tenant == ""


def test_a_segment_that_goes_meanwhile_is_left_out(tmp_path: Path) -> None:
    """Who looks while rows are shipped is not disturbed by it."""
    leave(tmp_path)
    found = written(tmp_path)
    (lane,) = tmp_path.glob("lane-*")
    lane.joinpath("00000002.segment").symlink_to(tmp_path / "gone")

    assert [len(rows) for rows, _ in found] == [2, 0]
    assert len(segments(lane)) == 2
