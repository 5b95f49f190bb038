"""The database in memory: what component tests run on, held to the same contract as PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from reference_stack.schemas.api.keys import KeyFeed
from reference_stack.schemas.api.runs import JudgedRun, RunVerdict, moment
from reference_stack.schemas.api.usage import UsageRow
from reference_stack.services.integration.database.memory_keys import MemoryKeys, MemorySpend
from reference_stack.services.integration.database.port import (
    KeyStore,
    RowsRefused,
    RunStore,
    SpendStore,
    Unavailable,
    UsageStore,
    UsageSum,
    UsageTotal,
    summed,
)

_MOST = 2**63 - 1


class MemoryDatabase:
    """See port.Database. With `outage` set every call raises Unavailable."""

    def __init__(self) -> None:
        self.outage = False
        self._keys = MemoryKeys(self.check)
        self.keys: KeyStore = self._keys
        self.feed: KeyFeed = self._keys
        self.spend: SpendStore = MemorySpend(self.check)
        self.usage: UsageStore = MemoryUsage(self)
        self.runs: RunStore = MemoryRuns(self)

    def check(self) -> None:
        if self.outage:
            raise Unavailable("the database in memory is told to be out")

    async def ping(self) -> str:
        return "the database in memory is told to be out" if self.outage else ""

    async def close(self) -> None:
        pass


class MemoryRuns:
    """See port.RunStore."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database
        self._runs: dict[str, JudgedRun] = {}
        self._verdicts: dict[str, list[RunVerdict]] = {}

    async def record(self, judged: JudgedRun) -> None:
        self._database.check()
        verdicts = self._verdicts.setdefault(judged.run.id, [])
        if not verdicts or not verdicts[-1].same_as(judged.verdict):
            verdicts.append(judged.verdict)
        self._runs[judged.run.id] = judged.model_copy(update={"verdict": verdicts[-1]})

    async def find(self, run_id: str) -> JudgedRun | None:
        self._database.check()
        return self._runs.get(run_id)

    async def recent(self, limit: int, service: str = "") -> list[JudgedRun]:
        self._database.check()
        chosen = [judged for judged in self._runs.values() if service in ("", judged.run.service)]
        return sorted(chosen, key=moment, reverse=True)[:limit]

    async def verdicts(self, run_id: str) -> list[RunVerdict]:
        self._database.check()
        return list(self._verdicts.get(run_id, ()))


class MemoryUsage:
    """See port.UsageStore."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database
        self._rows: dict[str, UsageRow] = {}

    async def add(self, rows: Sequence[UsageRow]) -> None:
        self._database.check()
        refused = [row for row in rows if not _fits(row)]
        for row in rows:
            if row not in refused:
                self._rows.setdefault(row.request_id, row)
        if refused:
            raise RowsRefused(refused, "they break a constraint")

    async def request_ids(self, since: datetime, until: datetime) -> list[str]:
        return [row.request_id for row in self._between(since, until)]

    async def sums(self, since: datetime, until: datetime) -> list[UsageSum]:
        return summed(self._between(since, until))

    async def known(self, request_ids: Sequence[str]) -> set[str]:
        self._database.check()
        return set(request_ids) & set(self._rows)

    async def totals(self, since: datetime, until: datetime) -> list[UsageTotal]:
        groups: dict[tuple[str, str], list[UsageRow]] = {}
        for row in self._between(since, until):
            groups.setdefault((row.key_id, row.model), []).append(row)
        return [
            UsageTotal(
                *group,
                requests=len(rows),
                prompt_tokens=sum(row.prompt_tokens or 0 for row in rows),
                output_tokens=sum(row.output_tokens for row in rows),
            )
            for group, rows in sorted(groups.items())
        ]

    async def key_totals(self, key_id: str, since: datetime, until: datetime) -> list[UsageTotal]:
        return [total for total in await self.totals(since, until) if total.key_id == key_id]

    def _between(self, since: datetime, until: datetime) -> list[UsageRow]:
        self._database.check()
        chosen = [row for row in self._rows.values() if since.timestamp() <= row.accepted_at_s < until.timestamp()]
        return sorted(chosen, key=lambda row: (row.accepted_at_s, row.request_id))


def _fits(row: UsageRow) -> bool:
    """Whether the tables of PostgreSQL would take `row`."""
    words = (row.request_id, row.client_request_id, row.key_id, row.tenant, row.model, row.route)
    return (
        1 <= len(row.request_id) <= 200
        and row.outcome in {"complete", "interrupted", "cancelled", "failed"}
        and 100 <= row.status <= 599
        and all(0 <= count <= _MOST for count in (row.prompt_tokens or 0, row.output_tokens))
        and not row.took_s < 0  # to PostgreSQL, NaN is more than any number
        and not any("\0" in word for word in words)
        and _can_be_sent(row, words)
    )


def _can_be_sent(row: UsageRow, words: Sequence[str]) -> bool:
    try:
        datetime.fromtimestamp(row.accepted_at_s, UTC)
        "".join(words).encode()
    except (ValueError, OverflowError):
        return False
    return True
