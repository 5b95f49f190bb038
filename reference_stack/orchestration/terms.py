"""The terms of a key as they are typed: numbers or "none", and times as people say them. Pure but for the clock."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Protocol

from reference_stack.errors import SettingsError

_SPAN = re.compile(r"([0-9]{1,6})(s|m|h|d)")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LIFTED = "none"


class Typed(Protocol):
    """The options that say terms, None where they were not typed."""

    @property
    def label(self) -> str | None: ...
    @property
    def tenant(self) -> str | None: ...
    @property
    def model(self) -> list[str] | None: ...
    @property
    def rpm(self) -> str | None: ...
    @property
    def tpm(self) -> str | None: ...
    @property
    def concurrent(self) -> str | None: ...
    @property
    def budget(self) -> str | None: ...
    @property
    def taken(self) -> str | None: ...
    @property
    def answers(self) -> str | None: ...
    @property
    def expires(self) -> str | None: ...


def terms(typed: Typed) -> dict[str, object]:
    """Return what was typed, by the names of schemas.api.key_admin.KeyTerms. Raises SettingsError."""
    said: dict[str, object] = {
        name: value
        for name, value in (("name", typed.label), ("tenant", typed.tenant), ("answers", typed.answers))
        if value is not None
    }
    if typed.model is not None:
        said["models"] = tuple(name for given in typed.model for name in given.split(","))
    numbers = {
        "requests_per_minute": ("--rpm", typed.rpm),
        "tokens_per_minute": ("--tpm", typed.tpm),
        "concurrent": ("--concurrent", typed.concurrent),
        "budget_tokens": ("--budget", typed.budget),
        "budget_taken": ("--taken", typed.taken),
    }
    said |= {name: _number(text, option) for name, (option, text) in numbers.items() if text is not None}
    if typed.expires is not None:
        said["expires"] = when(typed.expires, datetime.now(UTC))
    return said


def _number(text: str, option: str) -> int | None:
    if text == _LIFTED and option != "--taken":
        return None
    plain = text.replace("_", "").replace(",", "")
    if not (plain.isascii() and plain.isdigit()):
        raise SettingsError(f"{option} {text!r} is no number", hint=f"for example {option} 10_000, or {option} none")
    return int(plain)


def seconds(text: str, option: str) -> float:
    """Return how long `text` is (90s, 15m, 12h, 30d). Raises SettingsError."""
    found = _SPAN.fullmatch(text)
    if found is None:
        raise SettingsError(f"{option} {text!r} is no time", hint=f"for example {option} 90s, 15m, 12h or 30d")
    return float(found[1]) * _UNITS_S[found[2]]


def when(text: str, now: datetime) -> datetime | None:
    """Return the time that `text` names: so long from `now`, a day (its beginning, UTC), a time; None for never.

    Raises SettingsError, for a time that is over too.
    """
    if text == "never":
        return None
    if _SPAN.fullmatch(text):
        return now + timedelta(seconds=seconds(text, "--expires"))
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        hint = "for example --expires 30d, 12h, 2027-01-31, 2027-01-31T18:00+01:00 or never"
        raise SettingsError(f"--expires {text!r} is no time", hint=hint) from None
    found = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    if found <= now:
        raise SettingsError(f"--expires {text!r} is over", hint="hxp-stack keys revoke ends a key at once")
    return found
