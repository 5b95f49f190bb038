"""The status page: plain HTML that reads itself again, with no script and nothing from elsewhere."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import jinja2

from reference_stack.catalogue import load_catalogue
from reference_stack.services.infrastructure.monitoring.watch import Finding

_PAGE = Path(__file__).with_name("status.html.jinja")
# The page is plain HTML of its own style sheet: nothing else may be loaded or run, whatever a service says of itself.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_GROUPS = {"ai_models": "AI models", "infrastructure": "Infrastructure", "integration": "Integration"}
_OTHERS = "Others"


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["ago"] = _ago
    environment.filters["time"] = _took
    return environment.from_string(_PAGE.read_text(encoding="utf-8"))


def render(rows: Sequence[Finding], alerts: Sequence[dict[str, object]], interval_s: float, now_s: float) -> str:
    """Return the page for what was found; it is read again after `interval_s`, at least every 5 s."""
    catalogue = load_catalogue()
    groups: dict[str, list[tuple[str, Finding]]] = {}
    for row in rows:
        spec = catalogue.get(row.name)
        group = _OTHERS if spec is None else _GROUPS[spec.group]
        groups.setdefault(group, []).append((row.name if spec is None else spec.title, row))
    up = sum(row.up for row in rows)
    return _template().render(
        groups=groups,
        alerts=[alert for alert in alerts if alert["firing"]],
        refresh_s=max(5, round(interval_s)),
        now_s=now_s,
        up=up,
        of=len(rows),
        all_up=up == len(rows),
    )


def _ago(since_s: float, now_s: float) -> str:
    seconds = max(0, round(now_s - since_s))
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"


def _took(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
