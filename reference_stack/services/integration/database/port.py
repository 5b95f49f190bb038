"""What the rest of the stack asks of the database: keys, usage, and whether it serves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from reference_stack.errors import StackError
from reference_stack.schemas.api.keys import ApiKey, KeyRepository
from reference_stack.schemas.api.runs import JudgedRun, RunVerdict
from reference_stack.schemas.api.usage import UsageRepository, UsageRow


class Unavailable(StackError):
    """The database did not answer in time, or not at all; asking again later may help."""

    exit_code = 5


class RowsRefused(StackError):
    """The database refuses these rows, now and later; those that it takes are stored."""

    def __init__(self, rows: Sequence[UsageRow], reason: str) -> None:
        super().__init__(f"{len(rows)} usage rows are refused: {reason}")
        self.rows = tuple(rows)


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key with what its owner wrote about it. `expires` is aware; None: never."""

    key: ApiKey
    name: str = ""
    revoked: bool = False
    expires: datetime | None = None


@dataclass(frozen=True, slots=True)
class UsageTotal:
    """What one key used of one model."""

    key_id: str
    model: str
    requests: int
    prompt_tokens: int
    output_tokens: int


class KeyStore(KeyRepository, Protocol):
    """API keys: those found by digest are valid, those listed are all."""

    async def put(self, stored: StoredKey) -> None:
        """Add a key, or replace the one of the same id."""
        ...

    async def revoke(self, key_id: str) -> bool:
        """Make a key invalid for good; False when there is none of that id."""
        ...

    async def all_keys(self) -> list[StoredKey]:
        """Return every key, in the order of their ids."""
        ...


class UsageStore(UsageRepository, Protocol):
    """The usage log: rows are added once and never changed."""

    async def request_ids(self, since: datetime, until: datetime) -> list[str]:
        """Return the ids of the rows accepted in [since, until), in the order of their acceptance."""
        ...

    async def totals(self, since: datetime, until: datetime) -> list[UsageTotal]:
        """Return the sums per key and model over [since, until), in the order of key and model."""
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
    def usage(self) -> UsageStore: ...

    @property
    def runs(self) -> RunStore: ...

    async def ping(self) -> str:
        """Return "" when the server answers a query and takes writes, else why not."""
        ...

    async def close(self) -> None: ...
