"""The command `hxp-stack keys`: the keys of the gateway's clients, in the database that the gateway reads."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from reference_stack.errors import SettingsError
from reference_stack.orchestration.gateway_settings import gateway_settings
from reference_stack.orchestration.terms import seconds, terms
from reference_stack.schemas.api.key_admin import ChangedKey, NewKey, Rotation, shown
from reference_stack.schemas.api.keys import StoredKey
from reference_stack.schemas.configuration.api_gateway import ApiGatewaySettings
from reference_stack.services.infrastructure.api_gateway.database import database_at
from reference_stack.services.infrastructure.api_gateway.keys.keeper import Keeper, Made

_PAGE = 500
_COLUMNS = ("id", "state", "tenant", "models", "rpm", "tpm", "at once", "budget", "expires", "name")

Edge = TypeVar("Edge", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Asked:
    """What follows `hxp-stack keys`, as it was typed; None is what was not."""

    action: str
    name: str
    label: str | None
    tenant: str | None
    model: list[str] | None
    rpm: str | None
    tpm: str | None
    concurrent: str | None
    budget: str | None
    taken: str | None
    answers: str | None
    expires: str | None
    grace: str
    settings: Path | None
    folder: Path
    json: bool


def run(asked: Asked) -> int:
    """Do what is asked; return 0. Raises SettingsError, and Unavailable (exit 5) when the database cannot be asked."""
    actions: Mapping[str, Callable[[Asked, Keeper], Awaitable[None]]] = {
        "create": _create,
        "list": _list,
        "show": _show,
        "limit": _limit,
        "rotate": _rotate,
        "revoke": _revoke,
    }
    if not asked.name and asked.action not in ("create", "list"):
        raise SettingsError(f"which key is to be {_DONE[asked.action]}?", hint="hxp-stack keys list shows their ids")
    settings = _settings(asked)

    async def work() -> None:
        assert settings.database_dsn is not None  # noqa: S101 - _settings saw to it
        database = database_at(settings.database_dsn.get_secret_value())
        try:
            await actions[asked.action](asked, Keeper(database.keys, database.spend, settings.pepper()))
        finally:
            await database.close()

    asyncio.run(work())
    return 0


_DONE = {"show": "shown", "limit": "limited", "rotate": "rotated", "revoke": "revoked"}


def _settings(asked: Asked) -> ApiGatewaySettings:
    file, settings = gateway_settings(asked.settings, asked.folder)
    if settings.database_dsn is None:
        hint = "keys of the settings are changed there, under `keys`; a stack started with --mock has no database"
        raise SettingsError(f"{file}: this gateway keeps no keys in a database", hint=hint)
    return settings


async def _create(asked: Asked, keeper: Keeper) -> None:
    said = terms(asked)
    new = _checked(NewKey, said | ({"id": asked.name} if asked.name else {}))
    _tell_secret(asked, await keeper.create(new))


async def _rotate(asked: Asked, keeper: Keeper) -> None:
    rotation = _checked(Rotation, {"grace_s": seconds(asked.grace, "--grace")})
    _tell_secret(asked, await keeper.rotate(asked.name, rotation))


async def _limit(asked: Asked, keeper: Keeper) -> None:
    said = terms(asked)
    if not said:
        hint = f"for example: hxp-stack keys limit {asked.name} --rpm 600 --budget none"
        raise SettingsError("nothing to change was given", hint=hint)
    _tell(asked, await keeper.change(asked.name, _checked(ChangedKey, said)))


async def _revoke(asked: Asked, keeper: Keeper) -> None:
    stored = await keeper.revoke(asked.name)
    if asked.json:
        _tell(asked, stored)
    else:
        print(f"{asked.name} is revoked: within a second no gateway that reaches the database lets it in")


async def _show(asked: Asked, keeper: Keeper) -> None:
    _tell(asked, await keeper.find(asked.name), budget_taken=await keeper.taken(asked.name))


async def _list(asked: Asked, keeper: Keeper) -> None:
    """Print page by page, so that the first of many keys are there at once."""
    after, some = "", False
    while page := await keeper.page(after, _PAGE, asked.tenant):
        if not some and not asked.json:
            print(_line(_COLUMNS))
        some = True
        for stored in page:
            print(json.dumps(_shown(stored)) if asked.json else _line(_cells(_shown(stored))))
        after = page[-1].key.id
    if not some and not asked.json:
        print("there are no keys; hxp-stack keys create makes one")


def _checked(kind: type[Edge], said: Mapping[str, object]) -> Edge:
    try:
        return kind.model_validate(said)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        option = _OPTIONS.get(name, name)
        raise SettingsError(f"{option}: {first['msg'].lower()}", hint=_HINTS.get(option, "")) from None


_OPTIONS = {
    "id": "ID",
    "name": "--label",
    "tenant": "--tenant",
    "models": "--model",
    "requests_per_minute": "--rpm",
    "tokens_per_minute": "--tpm",
    "concurrent": "--concurrent",
    "budget_tokens": "--budget",
    "budget_taken": "--taken",
    "grace_s": "--grace",
}
_HINTS = {
    "ID": "1 to 64 letters, digits, and ._- : for example team-7.ci",
    "--model": "the model's public name, or * for all; hxp-stack config show api_gateway has them",
    "--grace": "90 days at most: for example --grace 24h",
}


def _tell_secret(asked: Asked, made: Made) -> None:
    if asked.json:
        print(json.dumps(_shown(made.stored) | {"secret": made.secret}))
        return
    print(made.secret)
    print(f"This is the secret of {made.stored.key.id}. It is shown this once and kept nowhere.", file=sys.stderr)
    if made.stored.former_until is not None:
        print(f"The one before it lives until {made.stored.former_until.isoformat()}.", file=sys.stderr)


def _tell(asked: Asked, stored: StoredKey, **more: object) -> None:
    found = _shown(stored) | more
    if asked.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:20} {_word(value)}")


def _shown(stored: StoredKey) -> dict[str, object]:
    return shown(stored, datetime.now(UTC))


def _word(value: object) -> str:
    if value is None:
        return "none"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _cells(found: Mapping[str, object]) -> tuple[str, ...]:
    names = ("id", "state", "tenant", "models", "requests_per_minute", "tokens_per_minute", "concurrent")
    return tuple(_word(found[name]) for name in (*names, "budget_tokens", "expires", "name"))


def _line(cells: tuple[str, ...]) -> str:
    widths = (24, 8, 12, 20, 8, 10, 8, 12, 26, 0)
    return " ".join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()
