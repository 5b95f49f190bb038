"""The command `hxp-stack usage`: asks the gateway's database and looks into its journal."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from reference_stack.errors import NotReady, SettingsError
from reference_stack.schemas.configuration.api_gateway import ApiGatewaySettings
from reference_stack.serve import read_settings
from reference_stack.services.infrastructure.api_gateway.database import database_at
from reference_stack.services.infrastructure.api_gateway.journal.parked import parked
from reference_stack.services.infrastructure.api_gateway.journal.survey import written
from reference_stack.services.integration.database.port import Database, RowsRefused, Unavailable
from reference_stack.usage.moment import moment
from reference_stack.usage.report import Report, Waiting, as_json, as_table

_EVER = datetime(1970, 1, 1, tzinfo=UTC)
_NEVER = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Asked:
    """What is wanted: `settings` are the gateway's, None for those of the stack in `folder`; "" is an open time."""

    folder: Path
    settings: Path | None
    by: tuple[str, ...]
    since: str = ""
    until: str = ""
    json: bool = False
    store_parked: bool = False


def usage(asked: Asked) -> int:
    """Print what was used; return 0. Raises StackError: a wrong time, no gateway, or its database does not answer."""
    now = datetime.now(UTC)
    since = moment("--since", asked.since, now) if asked.since else None
    until = moment("--until", asked.until, now) if asked.until else None
    if since is not None and until is not None and since >= until:
        raise SettingsError(f"--since {asked.since} is not before --until {asked.until}", hint="exchange them")
    settings = _settings(asked)
    if asked.store_parked:
        print(asyncio.run(_store_parked(settings)), file=sys.stderr)
    report = asyncio.run(_report(settings, since, until))
    print(json.dumps(as_json(report, asked.by)) if asked.json else as_table(report, asked.by))
    return 0


def _settings(asked: Asked) -> ApiGatewaySettings:
    file = asked.settings or asked.folder / "settings" / "api_gateway.json"
    if asked.settings is None and not file.exists():
        hint = "hxp-stack up starts one; for another gateway: hxp-stack usage --settings FILE"
        raise NotReady(f"no gateway was ever started in {asked.folder}", hint=hint)
    settings = read_settings("api_gateway", file)
    assert isinstance(settings, ApiGatewaySettings)  # noqa: S101 - the name says which settings these are
    return settings


async def _report(settings: ApiGatewaySettings, since: datetime | None, until: datetime | None) -> Report:
    database = _database(settings)
    directory = settings.journal.directory
    try:
        sums = await database.usage.sums(since or _EVER, until or _NEVER)
        waiting = None if directory is None else await _waiting(database, directory)
    except Unavailable as error:
        if directory is None:
            raise
        ended, opened = _written(directory)
        hint = f"up to {ended} requests that ended and {opened} that are open wait for it in {directory}; hxp-stack up"
        raise NotReady(error.message, hint=hint) from error
    finally:
        await database.close()
    return Report(sums, since, until, waiting)


def _database(settings: ApiGatewaySettings) -> Database:
    if settings.database_dsn is None:
        raise SettingsError(
            "this gateway has no database, so nothing of its usage is kept", hint="give it database_dsn"
        )
    return database_at(settings.database_dsn.get_secret_value())


async def _store_parked(settings: ApiGatewaySettings) -> str:
    """Offer the parked rows to the database again; return what came of it. The file stays: a row is stored once."""
    database = _database(settings)
    rows = [] if settings.journal.directory is None else parked(settings.journal.directory)
    refused, why = 0, ""
    try:
        await database.usage.add(rows)
    except RowsRefused as error:
        refused, why = len(error.rows), f": {error.message}"
    finally:
        await database.close()
    return f"of {len(rows)} parked rows {len(rows) - refused} are stored, {refused} are refused again{why}"


def _written(directory: Path) -> tuple[int, int]:
    found = list(written(directory))
    return sum(len(rows) for rows, _ in found), sum(len(ids) for _, ids in found)


async def _waiting(database: Database, directory: Path) -> Waiting:
    """Count what the database has not: the journal keeps a segment for a while after its rows are stored."""
    names = [row.request_id for row in parked(directory)]
    apart = set(names) - await database.usage.known(names)
    ended: set[str] = set()
    opened: set[str] = set()
    for number, (rows, ids) in enumerate(written(directory)):
        _progress(number)
        names = [row.request_id for row in rows]
        ended |= set(names) - apart - await database.usage.known(names)
        opened |= set(ids) - await database.usage.known(ids)
    return Waiting(directory, len(ended), len(opened - ended), len(apart))


def _progress(segments: int) -> None:
    if segments and segments % 50 == 0 and sys.stderr.isatty():
        print(f"looking into the journal: {segments} segments so far", file=sys.stderr)
