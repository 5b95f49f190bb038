"""The admin API's routes about the gateway's own processes: shown, renewed, reloaded, drained."""

from __future__ import annotations

import re

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from reference_stack.errors import StackError
from reference_stack.place import Command
from reference_stack.services.infrastructure.api_gateway.refusal import Refusal

_FOLDERS = re.compile(r"\S*/")


def add_workers(admin: APIRouter, command: Command) -> None:
    """Add the routes to `admin`, which lets only administrators in; `command` reaches the parent of all workers."""

    async def ask(word: str) -> JSONResponse:
        try:
            answer = await command(word)
        except StackError as error:
            raise Refusal(503, "gateway_unreachable", _without_folders(error.message), retry_after_s=1) from None
        if not answer["ok"]:
            raise Refusal(409, "gateway_refused", _without_folders(str(answer["error"])))
        return JSONResponse({name: value for name, value in answer.items() if name not in ("ok", "error")})

    @admin.get("/gateway")
    async def status() -> JSONResponse:
        return await ask("status")

    @admin.post("/gateway/restart")
    async def restart() -> JSONResponse:
        return await ask("restart")

    @admin.post("/gateway/reload")
    async def reload() -> JSONResponse:
        return await ask("reload")

    @admin.post("/gateway/drain")
    async def drain() -> JSONResponse:
        return await ask("drain")


def _without_folders(text: str) -> str:
    """Return what is wrong with the name of its file, and without where that lies."""
    return _FOLDERS.sub("", text)
