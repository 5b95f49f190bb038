"""What the gateway writes down of each request that it accepted: one row, of figures and names alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, overload

# complete: the answer was delivered to its end; interrupted: the model broke off; cancelled: the client went away;
# failed: nothing of an answer reached the client.
Outcome = Literal["complete", "interrupted", "cancelled", "failed"]


@dataclass(frozen=True, slots=True)
class UsageRow:
    """One accepted request.

    `request_id` is the gateway's own and unique; `client_request_id` is what the client called it, or "".
    `prompt_tokens` is None where the model never said. `output_tokens` is the model's figure when `exact`, else the
    number of events with text that were relayed, a lower bound. Times are wall-clock seconds since 1970; `took_s` is
    measured on the monotonic clock. `cached`: no model was asked; the tokens are those of the answer that was kept.
    """

    request_id: str
    client_request_id: str
    key_id: str
    tenant: str
    model: str
    route: str
    outcome: Outcome
    status: int
    stream: bool
    prompt_tokens: int | None
    output_tokens: int
    exact: bool
    accepted_at_s: float
    took_s: float
    cached: bool = False


class WrittenRows(Sequence[UsageRow]):
    """Rows as they were written down: JSON arrays of a word and then the fields of a row, in their order.

    A store that takes JSON takes `json` as it is; who looks at a row has all of them read, which costs some ten times
    as much. `read` returns None for what is no row, which is then left out.
    """

    def __init__(self, texts: Sequence[bytes], read: Callable[[bytes], UsageRow | None]) -> None:
        self._texts = texts
        self._read = read
        self._rows: list[UsageRow] | None = None

    @property
    def json(self) -> str:
        """All of them, as one JSON array."""
        return f"[{b','.join(self._texts).decode()}]"

    def and_then(self, later: WrittenRows) -> WrittenRows:
        """Return these and those behind them."""
        return WrittenRows([*self._texts, *later._texts], self._read)

    def __len__(self) -> int:
        return len(self._texts if self._rows is None else self._rows)

    @overload
    def __getitem__(self, index: int) -> UsageRow: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[UsageRow]: ...
    def __getitem__(self, index: int | slice) -> UsageRow | Sequence[UsageRow]:
        if self._rows is None:
            self._rows = [row for row in map(self._read, self._texts) if row is not None]
        return self._rows[index]


class UsageRepository(Protocol):
    """Where rows are kept. Adding a row whose `request_id` is there already changes nothing."""

    async def add(self, rows: Sequence[UsageRow]) -> None:
        """Store every one of `rows`, or raise."""
        ...
