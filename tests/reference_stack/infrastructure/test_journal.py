"""The journal as a gateway has it: what a request leaves, and a database that fails."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from reference_stack.errors import SettingsError
from reference_stack.schemas.configuration.api_gateway import ApiGatewaySettings, JournalSettings
from reference_stack.services.infrastructure.api_gateway.app import create_app
from reference_stack.services.infrastructure.api_gateway.events import Usage
from reference_stack.services.infrastructure.api_gateway.journal.book import _final
from reference_stack.services.infrastructure.api_gateway.journal.journal import DiskJournal
from reference_stack.services.infrastructure.api_gateway.journal.parked import park, parked
from reference_stack.services.infrastructure.api_gateway.measures import Measures
from tests.reference_stack.infrastructure.conftest import (
    ALICE,
    DONE,
    TEXTS,
    MakeGateway,
    Rows,
    Wire,
    chat,
    eventually,
)
from tests.reference_stack.infrastructure.journal_cases import accepted_call, ended, left, one_call, run_until
from tests.reference_stack.infrastructure.test_gateway_usage import ROW, metric


def test_rows_go_through_the_journal(make_gateway: MakeGateway, tmp_path: Path) -> None:
    """Each request is one row with the model's figures, and nothing is left on the disk when the gateway stopped."""
    gateway = make_gateway(journal={"directory": str(tmp_path / "journal")})
    gateway.post(chat())
    gateway.post(chat(stream=True))

    gateway.usage.last(2)

    assert [(row.outcome, row.status, row.output_tokens) for row in gateway.usage.rows] == [("complete", 200, 3)] * 2
    assert len(left(tmp_path / "journal")) == 1
    assert gateway.http.get("/health").json()["dependencies"]["journal"] == ""


def test_an_acceptance_is_on_the_disk_before_the_model_is_asked(make_gateway: MakeGateway, tmp_path: Path) -> None:
    """While the model works its request stands in the journal as accepted."""
    gateway = make_gateway(journal={"directory": str(tmp_path)})
    seen: list[str] = []

    async def look(wire: Wire) -> None:
        (segment,) = left(tmp_path)
        seen.append(wire.asked.headers["x-request-id"])
        assert seen[-1].encode() in segment.read_bytes()
        await wire.answer(b'{"choices": [{"index": 0}]}')

    gateway.backend.script = look

    assert gateway.post(chat()).status_code == 200
    assert gateway.usage.last().request_id == seen[0]


def test_a_complete_answer_is_on_the_disk_before_the_client_has_it(make_gateway: MakeGateway, tmp_path: Path) -> None:
    """Whoever has the last byte can be sure that its row is written."""
    gateway = make_gateway(journal={"directory": str(tmp_path)})
    gateway.usage.out = True
    for stream in (False, True):
        gateway.post(chat(stream=stream))
        (segment,) = left(tmp_path)
        assert segment.read_bytes().count(b'["final"') == 1 + stream
    gateway.usage.out = False


def test_what_was_streamed_is_marked_before_the_client_has_it(make_gateway: MakeGateway, tmp_path: Path) -> None:
    """A copy of the journal, taken when the client has two tokens, bills two."""
    gateway = make_gateway(journal={"directory": str(tmp_path / "journal")})
    go = asyncio.Event()

    async def pause(wire: Wire) -> None:
        await wire.stream(*TEXTS[:3])
        await go.wait()
        await wire.chunk(TEXTS[3] + DONE)
        await wire.end()

    gateway.backend.script = pause
    with gateway.http.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as reply:
        parts = reply.iter_raw()
        body = b""
        while b" two" not in body:
            body += next(parts)
        shutil.copytree(tmp_path / "journal", tmp_path / "copy")
        gateway.backend.call(go.set)
        body += b"".join(parts)
    assert body.endswith(DONE)

    rows = run_until(tmp_path / "copy", lambda rows: bool(rows.rows))
    (row,) = rows.rows
    assert (row.outcome, row.status, row.output_tokens, row.exact) == ("interrupted", 200, 2, False)
    assert row.request_id == gateway.usage.last().request_id


@pytest.mark.parametrize("usage", [None, Usage(7, 3)])
def test_the_journal_says_what_the_row_says(usage: Usage | None) -> None:
    """The end of a request is written without making its row, and is the same in every column."""
    call = ended(accepted_call())
    call.usage, call.texts, call.cached, call.status = usage, 5, True, 0
    row = call.row()
    assert row is not None

    final = _final(call).row()

    assert final.took_s >= row.took_s
    assert replace(final, took_s=row.took_s) == row


def test_the_database_out(make_gateway: MakeGateway, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Requests go on, one line says so, and every row is stored once when it is back."""
    caplog.set_level("INFO")
    gateway = make_gateway(journal={"directory": str(tmp_path)})
    gateway.usage.out = True
    for _ in range(5):
        assert gateway.post(chat()).status_code == 200
    eventually(lambda: "usage rows cannot be stored" in caplog.text)
    eventually(lambda: metric(gateway, "hxp_gateway_usage_rows_held") == 5)

    gateway.usage.out = False

    gateway.usage.last(5)
    assert len({row.request_id for row in gateway.usage.rows}) == len(gateway.usage.rows) == 5
    eventually(lambda: "usage rows are stored again" in caplog.text)
    eventually(lambda: metric(gateway, "hxp_gateway_usage_rows_held") == 0)
    assert metric(gateway, "hxp_gateway_usage_rows_stored_total") == 5
    assert sum("usage rows cannot be stored" in line for line in caplog.messages) == 1


def test_a_poison_row_is_parked(make_gateway: MakeGateway, tmp_path: Path) -> None:
    """One row that the database refuses ends in the parked file, and the others of its batch are stored."""
    gateway = make_gateway(journal={"directory": str(tmp_path)})
    gateway.usage.out = True
    gateway.usage.bad = {"bad"}
    for name in ("one", "bad", "two"):
        gateway.post(chat(), **{"x-request-id": name})
    gateway.usage.out = False

    gateway.usage.last(2)

    assert [row.client_request_id for row in gateway.usage.rows] == ["one", "two"]
    eventually(lambda: metric(gateway, "hxp_gateway_usage_rows_refused_total") == 1)
    assert [row.client_request_id for row in parked(tmp_path)] == ["bad"]


def test_a_row_is_parked_once(tmp_path: Path) -> None:
    """Parking again after a crash changes nothing, and what a crash cut off spoils nothing."""
    park(tmp_path, [ROW])
    with (tmp_path / "parked").open("ab") as file:
        file.write(b"0000 cut o")
    park(tmp_path, [ROW, replace(ROW, request_id="id-3")])
    park(tmp_path, [ROW])

    assert [row.request_id for row in parked(tmp_path)] == ["id-2", "id-3"]
    assert parked(tmp_path / "nowhere") == []


def test_rows_that_cannot_be_parked_wait(tmp_path: Path) -> None:
    """With no way to park it, a refused row stays in the journal."""
    (tmp_path / "parked").mkdir()
    rows = Rows(bad={""})
    one_call(tmp_path, rows)
    assert len(left(tmp_path)) == 1

    (tmp_path / "parked").rmdir()
    run_until(tmp_path, lambda _: not left(tmp_path)[1:] and (tmp_path / "parked").exists(), rows)
    assert [row.request_id for row in parked(tmp_path)] == ["id-1"]
    assert left(tmp_path) == []


def test_two_gateways_with_two_databases(make_gateway: MakeGateway, tmp_path: Path) -> None:
    """The second one in the same directory refuses, and says why; the first is not disturbed."""
    dsn = "postgresql://citadel@127.0.0.1:1"
    first = make_gateway(journal={"directory": str(tmp_path)}, database_dsn=f"{dsn}/one", key_rows=ALICE)
    second = make_gateway(journal={"directory": str(tmp_path)}, database_dsn=f"{dsn}/two", key_rows=ALICE)

    assert second.post(chat()).status_code == 503
    assert "another database" in second.http.get("/health").json()["dependencies"]["journal"]
    assert first.post(chat()).status_code == 200
    assert first.usage.last().outcome == "complete"


def test_a_journal_needs_a_database(tmp_path: Path) -> None:
    """A directory whose rows nobody would store is refused at the start."""
    settings = ApiGatewaySettings.model_validate({"journal": {"directory": str(tmp_path)}})

    with pytest.raises(SettingsError, match=r"journal\.directory") as refused:
        create_app(settings)

    assert "database_dsn" in refused.value.hint


def test_without_a_directory_the_log_says_so_once(make_gateway: MakeGateway, caplog: pytest.LogCaptureFixture) -> None:
    """Rows in memory die with the process; who runs it is told."""
    gateway = make_gateway()
    gateway.post(chat())
    gateway.usage.last()

    assert sum("usage rows wait in memory" in line for line in caplog.messages) == 1


def test_a_journal_that_never_opened_closes(tmp_path: Path) -> None:
    """A gateway that stops before its disk was there stops."""
    (tmp_path / "file").touch()

    async def story() -> None:
        journal = DiskJournal(JournalSettings(directory=tmp_path / "file"), Rows(), Measures(()), most_open=8)
        journal.start()
        assert journal.problem
        running = asyncio.ensure_future(journal.run())
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])
        await journal.close()

    asyncio.run(story())
