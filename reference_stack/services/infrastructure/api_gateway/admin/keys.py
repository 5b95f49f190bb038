"""The admin API's routes about keys and their usage."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError

from reference_stack.schemas.api.key_admin import ChangedKey, NewKey, Rotation, shown
from reference_stack.schemas.api.keys import StoredKey
from reference_stack.schemas.configuration.api_gateway import LimitSettings
from reference_stack.services.infrastructure.api_gateway.body import read_body
from reference_stack.services.infrastructure.api_gateway.keys.keeper import (
    Keeper,
    KeyRevoked,
    KeyTaken,
    Made,
    NoSuchKey,
)
from reference_stack.services.infrastructure.api_gateway.keys.usage import span
from reference_stack.services.infrastructure.api_gateway.refusal import Refusal, bad_request
from reference_stack.services.infrastructure.api_gateway.refusal import shown as shown_name
from reference_stack.services.integration.database.port import Unavailable, UsageStore

log = logging.getLogger(__name__)

_MOST_A_PAGE = 1000
_PAGE = 100
_EMPTY = b"{}"

Body = TypeVar("Body", bound=BaseModel)


def add_keys(admin: APIRouter, keeper: Keeper, usage: UsageStore, limits: LimitSettings) -> None:
    """Add the routes to `admin`, which lets only administrators in."""

    @admin.get("/keys")
    async def listed(request: Request) -> JSONResponse:
        asked = request.query_params
        limit = _limit(asked)
        with _told():
            found = await keeper.page(asked.get("after", ""), limit, asked.get("tenant"))
        following = found[-1].key.id if len(found) == limit else None
        return JSONResponse({"object": "list", "data": [_shown(each) for each in found], "after": following})

    @admin.post("/keys")
    async def create(request: Request) -> JSONResponse:
        new = await _body(request, NewKey, limits)
        with _told():
            made = await keeper.create(new)
        log.info("key %s was made by an administrator", made.stored.key.id)
        return _made(made, 201)

    @admin.get("/keys/{key_id}")
    async def find(key_id: str) -> JSONResponse:
        with _told():
            stored = await keeper.find(key_id)
            return JSONResponse(_shown(stored) | {"budget_taken": await keeper.taken(key_id)})

    @admin.patch("/keys/{key_id}")
    async def change(key_id: str, request: Request) -> JSONResponse:
        changed = await _body(request, ChangedKey, limits)
        with _told():
            stored = await keeper.change(key_id, changed)
        log.info("key %s was changed by an administrator: %s", key_id, ", ".join(sorted(changed.model_fields_set)))
        return JSONResponse(_shown(stored))

    @admin.post("/keys/{key_id}/rotate")
    async def rotate(key_id: str, request: Request) -> JSONResponse:
        rotation = await _body(request, Rotation, limits)
        with _told():
            made = await keeper.rotate(key_id, rotation)
        log.info("key %s was given a new secret by an administrator", key_id)
        return _made(made, 200)

    @admin.post("/keys/{key_id}/revoke")
    async def revoke(key_id: str) -> JSONResponse:
        with _told():
            stored = await keeper.revoke(key_id)
        log.info("key %s was revoked by an administrator", key_id)
        return JSONResponse(_shown(stored))

    @admin.get("/usage")
    async def used(request: Request) -> JSONResponse:
        since, until = span(request.query_params)
        key_id = request.query_params.get("key")
        with _told():
            totals = await (usage.totals(since, until) if key_id is None else usage.key_totals(key_id, since, until))
        data = [asdict(total) for total in totals]
        return JSONResponse({"object": "usage", "since": since.isoformat(), "until": until.isoformat(), "data": data})


def _shown(stored: StoredKey) -> dict[str, object]:
    return shown(stored, datetime.now(UTC))


def _made(made: Made, status: int) -> JSONResponse:
    """Tell the secret, this once, and tell everybody on the way not to keep it."""
    body = _shown(made.stored) | {"secret": made.secret}
    return JSONResponse(body, status_code=status, headers={"cache-control": "no-store"})


def _limit(asked: Mapping[str, str]) -> int:
    text = asked.get("limit", str(_PAGE))
    if not (text.isascii() and text.isdigit() and len(text) < 5 and 1 <= int(text) <= _MOST_A_PAGE):
        raise bad_request("invalid_value", f"limit must be an integer from 1 to {_MOST_A_PAGE}", "limit")
    return int(text)


async def _body(request: Request, kind: type[Body], limits: LimitSettings) -> Body:
    """Return the body. Raises Refusal 400 that names the first field that is wrong, and no value."""
    raw = await read_body(request.scope["headers"], request.receive, limits)
    try:
        return kind.model_validate_json(raw or _EMPTY)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        name = shown_name(".".join(str(part) for part in first["loc"])) or "body"
        if first["type"] == "extra_forbidden":
            raise bad_request("unknown_parameter", f"the parameter {name!r} is not known here", name) from None
        raise bad_request(
            "invalid_value", f"{name} is wrong: {_KINDS.get(first['type'], 'see the documentation')}", name
        ) from None


# pydantic's own words may repeat what was sent.
_KINDS = {
    "json_invalid": "it is no JSON",
    "literal_error": "off, exact or sampled",
    "string_pattern_mismatch": "it has characters that may not be in it, or too many",
    "string_too_long": "it is too long",
    "timezone_aware": "a time needs its zone",
    "greater_than_equal": "it is too small",
    "less_than_equal": "it is too large",
    "too_short": "name one at least",
}


@contextmanager
def _told() -> Iterator[None]:
    """Say as an answer what the keeper or its store raise."""
    try:
        yield
    except NoSuchKey:
        raise Refusal(404, "key_not_found", "there is no such key") from None
    except KeyTaken:
        raise Refusal(409, "key_exists", "there is a key of that id already", param="id") from None
    except KeyRevoked:
        raise Refusal(409, "key_revoked", "the key is revoked, and stays so") from None
    except Unavailable:
        raise Refusal(503, "keys_unavailable", "the database cannot be asked at the moment", retry_after_s=1) from None
