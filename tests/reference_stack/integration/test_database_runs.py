"""The contract of the database, its runs and verdicts: one suite over mock, embedded and external."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from reference_stack.schemas.api.runs import JudgedRun, Run, RunVerdict
from reference_stack.services.integration.database.port import (
    Database,
)
from tests.reference_stack.integration.database_cases import NOON


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
