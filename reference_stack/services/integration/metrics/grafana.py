"""Puts dashboards into a Grafana and reads them back, so that what was put is what is there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import httpx

from reference_stack.schemas.configuration.metrics import MetricsSettings
from reference_stack.services.integration.metrics.port import PushRefused, Unavailable


async def push(
    settings: MetricsSettings, boards: Iterable[dict[str, Any]], *, transport: httpx.AsyncBaseTransport | None = None
) -> list[str]:
    """Put each dashboard, in place of one of the same uid; return their uids.

    Raises PushRefused when Grafana does not take one or has other panels afterwards, Unavailable when it is away.
    """
    token = settings.grafana_token.get_secret_value()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    done = []
    async with httpx.AsyncClient(
        base_url=settings.grafana_url, headers=headers, timeout=settings.timeout_s, transport=transport, trust_env=False
    ) as client:
        for board in boards:
            body = {"dashboard": {**board, "id": None}, "overwrite": True, "message": "hxp-stack"}
            await _ask(client, "POST", "/api/dashboards/db", body)
            there = await _ask(client, "GET", f"/api/dashboards/uid/{board['uid']}")
            if _questions(there.get("dashboard")) != _questions(board):
                raise PushRefused(f"Grafana has other panels in {board['uid']} than were put there")
            done.append(str(board["uid"]))
    return done


def _questions(board: object) -> list[str]:
    panels = board.get("panels", []) if isinstance(board, dict) else []
    return [target["expr"] for panel in panels for target in panel.get("targets", [])]


async def _ask(client: httpx.AsyncClient, method: str, path: str, body: object = None) -> dict[str, Any]:
    try:
        answer = await client.request(method, path, json=body)
    except httpx.HTTPError as error:
        raise Unavailable(f"Grafana cannot be asked: {type(error).__name__}") from error
    if answer.status_code != httpx.codes.OK:
        hint = "give metrics.grafana_token a service account's token" if answer.status_code in {401, 403} else ""
        raise PushRefused(f"Grafana answers {answer.status_code} to {method} {path}", hint=hint)
    try:
        said = answer.json()
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise PushRefused("what answers there is not Grafana")
    return said
