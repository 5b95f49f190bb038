"""What the rest of the stack asks of the database: keys, usage, and whether it serves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, get_args

from reference_stack.errors import StackError
from reference_stack.schemas.api.keys import Alter, KeyFeed, KeyRepository, StoredKey
from reference_stack.schemas.api.runs import JudgedRun, RunVerdict
from reference_stack.schemas.api.usage import Outcome, UsageRepository, UsageRow

SHARES = 16


class Unavailable(StackError):
    """The database did not answer in time, or not at all; asking again later may help."""

    exit_code = 5


class RowsRefused(StackError):
    """The database refuses these rows, now and later; those that it takes are stored."""

    def __init__(self, rows: Sequence[UsageRow], reason: str) -> None:
        super().__init__(f"{len(rows)} usage rows are refused: {reason}")
        self.rows = tuple(rows)


@dataclass(frozen=True, slots=True)
class UsageTotal:
    """What one key used of one model."""

    key_id: str
    model: str
    requests: int
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class UsageSum:
    """What one key of one tenant used of one model, and how its requests ended.

    `inexact` are those whose tokens the model did not report: they count what was relayed.
    """

    key_id: str
    tenant: str
    model: str
    requests: int
    complete: int
    interrupted: int
    cancelled: int
    failed: int
    inexact: int
    prompt_tokens: int
    output_tokens: int


def summed(rows: Iterable[UsageRow]) -> list[UsageSum]:
    """Return the sums of `rows`."""
    groups: dict[tuple[str, str, str], list[UsageRow]] = {}
    for row in rows:
        groups.setdefault((row.key_id, row.tenant, row.model), []).append(row)
    return [
        UsageSum(
            *group,
            requests=len(found),
            **{outcome: sum(row.outcome == outcome for row in found) for outcome in get_args(Outcome)},
            inexact=sum(not row.exact for row in found),
            prompt_tokens=sum(row.prompt_tokens or 0 for row in found),
            output_tokens=sum(row.output_tokens for row in found),
        )
        for group, found in sorted(groups.items())
    ]


class KeyStore(KeyRepository, Protocol):
    """API keys: those found by digest are valid, those listed are all."""

    async def find(self, key_id: str) -> StoredKey | None:
        """Return the key of this id, valid or not; None when there is none."""
        ...

    async def add(self, stored: StoredKey) -> bool:
        """Add a key; False, and nothing changed, when there is one of its id."""
        ...

    async def put(self, stored: StoredKey) -> None:
        """Add a key, or replace the one of the same id."""
        ...

    async def change(self, key_id: str, alter: Alter) -> StoredKey | None:
        """Replace a key by what `alter` makes of it, with nobody in between; None when there is none of that id.

        `alter` may be called more than once; what it raises changes nothing.
        """
        ...

    async def revoke(self, key_id: str) -> bool:
        """Make a key invalid for good; False when there is none of that id."""
        ...

    async def all_keys(self) -> list[StoredKey]:
        """Return every key, in the order of their ids."""
        ...

    async def page(self, after: str, limit: int, tenant: str | None = None) -> list[StoredKey]:
        """Return at most `limit` keys whose ids come after `after`, in their order, of one tenant where it is given."""
        ...


@dataclass(frozen=True, slots=True)
class Drawn:
    """What was given of a budget, and what is left of it, in tokens."""

    given: int
    left: int


def share_of(left: int, least: int, want: int, most: int) -> int:
    """Return how much of what is `left` one gets: as in cache.port.Ask."""
    return 0 if left < least else min(left, max(want, min(most, left // SHARES)))


class SpendStore(Protocol):
    """What keys have taken of their budgets; workers draw a share at a time, so that nobody asks for each request."""

    async def draw(self, key_id: str, budget: int, owed: int, least: int, want: int, most: int) -> Drawn:
        """Add `owed` to what is taken (negative: give back), then take more.

        None unless `least` can be had, at least `want` where it can, up to `most` while plenty is left.

        What is taken by a draw never exceeds `budget`, whoever draws at the same time.
        """
        ...

    async def spent(self, key_id: str) -> int:
        """Return the tokens taken."""
        ...

    async def set_spent(self, key_id: str, tokens: int) -> None:
        """Say that `tokens` are taken."""
        ...


class UsageStore(UsageRepository, Protocol):
    """The usage log: rows are added once and never changed."""

    async def request_ids(self, since: datetime, until: datetime) -> list[str]:
        """Return the ids of the rows accepted in [since, until), in the order of their acceptance."""
        ...

    async def totals(self, since: datetime, until: datetime) -> list[UsageTotal]:
        """Return the sums per key and model over [since, until), in the order of key and model."""
        ...

    async def key_totals(self, key_id: str, since: datetime, until: datetime) -> list[UsageTotal]:
        """Return the sums of one key, in the order of its models."""
        ...

    async def sums(self, since: datetime, until: datetime) -> list[UsageSum]:
        """Return what was used over [since, until), by key, tenant and model and in that order."""
        ...

    async def known(self, request_ids: Sequence[str]) -> set[str]:
        """Return those of `request_ids` that are here."""
        ...


class RunStore(Protocol):
    """Performance runs and the history of their verdicts."""

    async def record(self, judged: JudgedRun) -> None:
        """Keep a run, or replace what is known of it; its verdict joins the history unless the last one is the same."""
        ...

    async def find(self, run_id: str) -> JudgedRun | None:
        """Return a run with its latest verdict, None when there is none of that id."""
        ...

    async def recent(self, limit: int, service: str = "") -> list[JudgedRun]:
        """Return at most `limit` runs, of `service` where one is given, the latest started first."""
        ...

    async def verdicts(self, run_id: str) -> list[RunVerdict]:
        """Return every verdict of a run, the first one first."""
        ...


class Database(Protocol):
    """The stores and their server. Every call raises Unavailable while the server cannot be asked."""

    @property
    def keys(self) -> KeyStore: ...

    @property
    def feed(self) -> KeyFeed: ...

    @property
    def spend(self) -> SpendStore: ...

    @property
    def usage(self) -> UsageStore: ...

    @property
    def runs(self) -> RunStore: ...

    async def ping(self) -> str:
        """Return "" when the server answers a query and takes writes, else why not."""
        ...

    async def close(self) -> None: ...
