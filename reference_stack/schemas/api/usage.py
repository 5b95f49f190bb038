"""What the gateway writes down of each request that it accepted: one row, of figures and names alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

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


class UsageRepository(Protocol):
    """Where rows are kept. Adding a row whose `request_id` is there already changes nothing."""

    async def add(self, rows: Sequence[UsageRow]) -> None:
        """Store every one of `rows`, or raise."""
        ...
