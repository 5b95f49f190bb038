"""Mutants of a gateway's door: an ASGI application around the real gateway, and the checks of `hxp_harness.security`.

Only the session `mutants` has them: each check sends hundreds of requests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from hxp_harness.security.checks import Report, check_addresses, check_authentication, check_bad_input
from hxp_harness.target import Target
from reference_stack.schemas.configuration.api_gateway import ApiGatewaySettings
from reference_stack.services.infrastructure.api_gateway.app import create_app
from tests.mutants.mutant import Mutant, Workshop
from tests.reference_stack.infrastructure.conftest import PEPPER, Backend, Rows, key_row
from tests.reference_stack.infrastructure.serving import serving

KEY = "hxp-Correct-Horse-42"
_MODEL = "mixtral"

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def _as_it_was(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return headers


def _as_it_came(_: bytes, status: int, body: bytes) -> tuple[int, bytes]:
    return status, body


@dataclass(frozen=True, slots=True)
class Door:
    """What is changed: the headers that came, or the answer, of which the request's body is known."""

    headers: Callable[[list[tuple[bytes, bytes]]], list[tuple[bytes, bytes]]] = _as_it_was
    answer: Callable[[bytes, int, bytes], tuple[int, bytes]] = _as_it_came


def around(app: App, door: Door) -> App:
    """Return `app` with a broken door."""

    async def changed(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        scope["headers"] = door.headers(list(scope["headers"]))
        asked, said = bytearray(), bytearray()
        status: list[int] = []

        async def hear() -> Message:
            message = await receive()
            asked.extend(message.get("body", b""))
            return message

        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start":
                status.append(message["status"])
                return
            said.extend(message.get("body", b""))
            if message.get("more_body"):
                return
            code, body = door.answer(bytes(asked), status[0], bytes(said))
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": code, "headers": headers})
            await send({"type": "http.response.body", "body": body})

        await app(scope, hear, tell)

    return changed


@contextmanager
def _opened(workshop: Workshop, door: Door | None) -> Iterator[Target]:
    """Yield the gateway behind its door; without one it is as it is."""
    pepper = workshop.folder / "pepper"
    pepper.write_text(PEPPER)
    with Backend() as backend:
        settings = ApiGatewaySettings.model_validate(
            {
                "upstreams": {_MODEL: {"base_url": backend.url}},
                "pepper_file": str(pepper),
                "keys": [key_row("k", KEY)],
            }
        )
        app: Any = create_app(settings, usage_repository=Rows())
        with serving(app if door is None else around(app, door)) as url:
            yield Target(f"{url}/v1", _MODEL, KEY)


def _mutant(name: str, breaks: str, check: Callable[[Target], Report], how: str, says: str, door: Door) -> Mutant:
    def trial(workshop: Workshop, broken: bool) -> str:
        key = (check, broken and name)
        if key not in workshop.kept:
            with _opened(workshop, door if broken else None) as target:
                report = check(target)
            first = [f"{found.case}: {found.problem}" for found in report.findings if says in found.problem][:1]
            rest = [f"{found.case}: {found.problem}" for found in report.findings][:1]
            workshop.kept[key] = report.not_proven or "; ".join(first or rest)
        told: str = workshop.kept[key]
        return told

    return Mutant(name, breaks, check.__name__, how, trial, says)


def _right_key(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    kept = [pair for pair in headers if pair[0] != b"authorization"]
    return [*kept, (b"authorization", f"Bearer {KEY}".encode())]


def _any_case(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    keys = [value for name, value in headers if name == b"authorization"]
    right = f"Bearer {KEY}".encode()
    return _right_key(headers) if len(keys) == 1 and keys[0].lower() == right.lower() else headers


def _error(status: int, message: str) -> tuple[int, bytes]:
    return status, json.dumps({"error": {"message": message, "type": "x", "param": None, "code": None}}).encode()


def _goes(asked: bytes, status: int, body: bytes) -> tuple[int, bytes]:
    """Ask whatever the body names, as a server that fetches pictures does."""
    for url in dict.fromkeys(re.findall(rb"http://127\.0\.0\.1:\d+/\d+", asked)):
        httpx.get(url.decode(), trust_env=False)
    return status, body


DOOR = (
    _mutant(
        "gateway that lets anybody in", "I10", check_authentication, "puts the right key in place of any",
        "status 200 where it should be refused", Door(headers=_right_key),
    ),
    _mutant(
        "key in any case", "I10", check_authentication, "takes the key in small letters, too",
        "status 200 where it should be refused", Door(headers=_any_case),
    ),
    _mutant(
        "gateway that falls over wrong keys", "I11", check_authentication, "makes 401 a 500",
        "the server broke", Door(answer=lambda _, code, body: _error(500, "x") if code == 401 else (code, body)),
    ),
    _mutant(
        "body echoed", "I11", check_bad_input, "repeats in its errors what was sent", "says what was sent",
        Door(answer=lambda ask, code, body: _error(code, ask.decode("latin-1")) if code == 400 else (code, body)),
    ),
    _mutant(
        "bad input taken", "I11", check_bad_input, "makes 400 a 200", "status 200 where it should be refused",
        Door(answer=lambda _, code, body: (200 if code == 400 else code, body)),
    ),
    _mutant(
        "gateway that breaks on bad input", "I11", check_bad_input, "makes 400 a 500", "the server broke",
        Door(answer=lambda _, code, body: _error(500, "x") if code == 400 else (code, body)),
    ),
    _mutant(
        "error of 9 KiB", "I11", check_bad_input, "writes a long error", "the error has",
        Door(answer=lambda _, code, body: _error(code, "x" * 9216) if code == 400 else (code, body)),
    ),
    _mutant(
        "gateway that fetches addresses", "OWASP API7", check_addresses, "asks whatever a body names",
        "the server asked another one", Door(answer=_goes),
    ),
)  # fmt: skip
