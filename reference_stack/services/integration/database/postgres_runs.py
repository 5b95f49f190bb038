"""The history of runs in PostgreSQL."""

from __future__ import annotations

import json

import asyncpg

from reference_stack.schemas.api.runs import JudgedRun, Run, RunVerdict
from reference_stack.services.integration.database.migrate import Connection
from reference_stack.services.integration.database.pool import Pool

_PUT_RUN = """
INSERT INTO run (id, started, profile, service, evidence, metrics) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (id) DO UPDATE SET started = excluded.started, profile = excluded.profile, service = excluded.service,
    evidence = excluded.evidence, metrics = excluded.metrics"""
_LAST = "SELECT * FROM verdict WHERE run_id = $1 ORDER BY number DESC LIMIT 1"
_ADD_VERDICT = "INSERT INTO verdict (run_id, number, outcome, reasons, judged) VALUES ($1, $2, $3, $4, $5)"
_JUDGED = """
SELECT run.*, latest.outcome, latest.reasons, latest.judged FROM run
CROSS JOIN LATERAL (SELECT * FROM verdict WHERE run_id = run.id ORDER BY number DESC LIMIT 1) latest"""
FIND = f"{_JUDGED} WHERE run.id = $1"
_LATEST_FIRST = 'ORDER BY run.started DESC, run.id COLLATE "C" DESC LIMIT $1'
RECENT = f"{_JUDGED} {_LATEST_FIRST}"
RECENT_OF = f"{_JUDGED} WHERE run.service = $2 {_LATEST_FIRST}"
VERDICTS = "SELECT * FROM verdict WHERE run_id = $1 ORDER BY number"


class PostgresRuns:
    """See port.RunStore."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def record(self, judged: JudgedRun) -> None:
        run, verdict = judged.run, judged.verdict
        metrics = json.dumps(dict(run.metrics))

        async def work(connection: Connection) -> None:
            async with connection.transaction():
                # Writing the row locks it, so that verdicts of one run come one after another.
                await connection.execute(_PUT_RUN, run.id, run.started, run.profile, run.service, run.evidence, metrics)
                last = await connection.fetchrow(_LAST, run.id)
                if last is None or not _verdict(last).same_as(verdict):
                    number = 1 if last is None else last["number"] + 1
                    reasons = list(verdict.reasons)
                    await connection.execute(_ADD_VERDICT, run.id, number, verdict.outcome, reasons, verdict.judged)

        await self._pool.run(work)

    async def find(self, run_id: str) -> JudgedRun | None:
        row = await self._pool.run(lambda connection: connection.fetchrow(FIND, run_id))
        return None if row is None else _judged(row)

    async def recent(self, limit: int, service: str = "") -> list[JudgedRun]:
        statement, values = (RECENT_OF, (limit, service)) if service else (RECENT, (limit,))
        return [_judged(row) for row in await self._pool.run(lambda connection: connection.fetch(statement, *values))]

    async def verdicts(self, run_id: str) -> list[RunVerdict]:
        rows = await self._pool.run(lambda connection: connection.fetch(VERDICTS, run_id))
        return [_verdict(row) for row in rows]


def _judged(row: asyncpg.Record) -> JudgedRun:
    run = Run(
        id=row["id"],
        started=row["started"],
        profile=row["profile"],
        service=row["service"],
        evidence=row["evidence"],
        metrics=json.loads(row["metrics"]),
    )
    return JudgedRun(run=run, verdict=_verdict(row))


def _verdict(row: asyncpg.Record) -> RunVerdict:
    return RunVerdict(outcome=row["outcome"], reasons=tuple(row["reasons"]), judged=row["judged"])
