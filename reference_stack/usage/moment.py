"""Times as a person types them: a date, a date and time, or how long ago. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from reference_stack.errors import SettingsError

_AGO = re.compile(r"(\d+(?:\.\d+)?)([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def moment(option: str, text: str, now: datetime) -> datetime:
    """Return the time that `text` says; without a zone it is UTC. Raises SettingsError that names `option`."""
    ago = _AGO.fullmatch(text)
    try:
        if ago is not None:
            return now - timedelta(**{_UNITS[ago[2]]: float(ago[1])})
        found = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        hint = f"for example {option} 2026-11-26, {option} 2026-11-26T08:00 or {option} 24h (m, h, d, w ago)"
        raise SettingsError(f"{option} {text!r} is no time", hint=hint) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
