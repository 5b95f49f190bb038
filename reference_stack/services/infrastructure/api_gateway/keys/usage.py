"""What a key is told of itself: what it used, and how much it may use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

from reference_stack.schemas.api.keys import ApiKey
from reference_stack.services.infrastructure.api_gateway.refusal import Refusal, bad_request
from reference_stack.services.integration.database.port import Database

_LATELY = timedelta(days=30)


async def usage_of(key: ApiKey, database: Database | None, asked: Mapping[str, str]) -> dict[str, object]:
    """Return the key's totals by model over [since, until), the last thirty days unless `asked` has them.

    Raises Refusal 400 for what is no time, 503 when usage cannot be read.
    """
    since, until = span(asked)
    if database is None:
        raise Refusal(503, "usage_unavailable", "usage is not stored here", retry_after_s=60)
    try:
        totals = await database.usage.key_totals(key.id, since, until)
        taken = 0 if key.limits.budget_tokens is None else await database.spend.spent(key.id)
    except Exception:  # noqa: BLE001 - whatever is wrong with the store, the client is told the same
        raise Refusal(503, "usage_unavailable", "usage cannot be read at the moment", retry_after_s=1) from None
    return {
        "object": "usage",
        "key": key.id,
        "tenant": key.tenant,
        "since": since.isoformat(),
        "until": until.isoformat(),
        "data": [{name: value for name, value in asdict(total).items() if name != "key_id"} for total in totals],
        "limits": asdict(key.limits) | {"budget_taken": taken},
        "answers": key.answers,
        "expires": None if key.expires is None else key.expires.isoformat(),
    }


def span(asked: Mapping[str, str]) -> tuple[datetime, datetime]:
    """Return `since` and `until` as `asked`, else the last thirty days. Raises Refusal 400 for what is no time."""
    until = _time(asked, "until") or datetime.now(UTC)
    return _time(asked, "since") or until - _LATELY, until


def _time(asked: Mapping[str, str], name: str) -> datetime | None:
    text = asked.get(name)
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise bad_request("invalid_value", f"{name} must be a time with its zone: 2026-01-31T00:00:00Z", name)
    return found
