"""The command `hxp-stack history`: runs listed or searched, of folders and of the stack that runs."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from reference_stack.history.record import Record, read_runs
from reference_stack.history.search import Found, index, search
from reference_stack.orchestration import state as states
from reference_stack.schemas.api.runs import JudgedRun
from reference_stack.schemas.configuration.vector_database import VectorDatabaseSettings
from reference_stack.services.integration.vector_database.client import connect
from reference_stack.services.integration.vector_database.port import VectorDatabase

_SAY_AFTER_S = 1.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What is wanted: with a `question` a search, else the latest runs; `service` and `verdict` "" take all."""

    runs: Path
    stack: Path
    question: str = ""
    service: str = ""
    verdict: str = ""
    limit: int = 10
    as_json: bool = False


def history(asked: Asked) -> int:
    """Print what was asked for; return 0. Raises StackError."""
    records, problems = read_runs(asked.runs)
    for problem in problems:
        print(f"hxp-stack: left out: {problem}", file=sys.stderr)
    rows: Sequence[Found | JudgedRun]
    rows = asyncio.run(_search(asked, records)) if asked.question else asyncio.run(_list(asked, records))
    if asked.as_json:
        print(json.dumps([row.model_dump(mode="json") if isinstance(row, JudgedRun) else asdict(row) for row in rows]))
    elif rows:
        print("\n".join(_line(row) for row in rows))
    else:
        print(f"no run found\n  runs are looked for in {asked.runs}: hxp perf --model mixtral makes one")
    return 0


async def _search(asked: Asked, records: Sequence[Record]) -> list[Found]:
    where = {name: value for name, value in (("service", asked.service), ("verdict", asked.verdict)) if value}
    began, done, said = time.monotonic(), 0, False

    def progress(count: int) -> None:
        nonlocal done, said
        done += count
        if time.monotonic() - began > _SAY_AFTER_S and sys.stderr.isatty():
            said = True
            print(f"\rindexing runs: {done} of {len(records)}", end="", file=sys.stderr, flush=True)

    async with _vectors(asked.stack) as store:
        await index(store, records, progress)
        if said:
            print(file=sys.stderr)
        return await search(store, asked.question, asked.limit, where)


async def _list(asked: Asked, records: Sequence[Record]) -> list[JudgedRun]:
    """The runs of the folders, and those besides that the stack's database remembers."""
    runs = {record.id: record.judged() for record in records}
    dsn = _offer(asked.stack, "database").get("url")
    if dsn:
        runs = await _remembered(str(dsn), runs, asked) | runs
    chosen = [
        judged
        for judged in runs.values()
        if asked.service in ("", judged.run.service) and asked.verdict in ("", judged.verdict.outcome)
    ]
    return sorted(chosen, key=lambda judged: (judged.run.started, judged.run.id), reverse=True)[: asked.limit]


async def _remembered(dsn: str, runs: dict[str, JudgedRun], asked: Asked) -> dict[str, JudgedRun]:
    """Let the database remember `runs`; return those that it has."""
    from reference_stack.schemas.configuration.database import DatabaseSettings
    from reference_stack.services.integration.database.postgres import PostgresDatabase

    parts = urlsplit(dsn)
    where = {"host": parts.hostname, "port": parts.port, "user": parts.username, "database": parts.path.strip("/")}
    database = PostgresDatabase(DatabaseSettings.model_validate(where))
    try:
        for judged in runs.values():
            await database.runs.record(judged)
        return {judged.run.id: judged for judged in await database.runs.recent(1000, asked.service)}
    finally:
        await database.close()


@asynccontextmanager
async def _vectors(stack: Path) -> AsyncIterator[VectorDatabase]:
    """The vector database of the stack in `stack` when it runs, else one in memory for as long as this lasts."""
    offer = _offer(stack, "vector_database")
    if offer.get("url"):
        parts = urlsplit(str(offer["url"]))
        settings = VectorDatabaseSettings.model_validate(
            {"backend": "external", "host": parts.hostname, "port": parts.port, "grpc_port": offer["grpc_port"]}
        )
    else:
        settings = VectorDatabaseSettings(backend="mock", timeout_s=60)
    store = connect(settings)
    try:
        yield store
    finally:
        await store.close()


def _offer(stack: Path, service: str) -> dict[str, object]:
    state = states.read(stack)
    if state is None or not state.alive:
        return {}
    return dict(state.services.get(service, {}))


def _line(row: Found | JudgedRun) -> str:
    if isinstance(row, JudgedRun):
        said = row.verdict.reasons[0] if row.verdict.reasons else ""
        return _joined(row.run.id, row.verdict.outcome, row.run.service, row.run.started.isoformat(), said)
    return _joined(row.run, row.verdict, row.service, row.started, row.text)


def _joined(run: str, verdict: str, service: str, started: str, text: str) -> str:
    return f"{run}  {verdict}  {service}  {started[:16].replace('T', ' ')}\n    {text[:200]}"
