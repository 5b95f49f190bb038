"""Ways to break an answer on its way: each function makes one change of a middleman."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.mutants.middleman import Asked, Change, Said

Tree = dict[str, Any]
DONE = b"data: [DONE]\n\n"


def is_stream(said: Said) -> bool:
    return said.headers.get("content-type", "").startswith("text/event-stream")


def in_events(change: Callable[[list[Tree]], list[Tree]], end: bytes = DONE) -> Change:
    """Change the events of streams; they close with `end`."""

    def says(_: Asked, said: Said) -> Said:
        if not is_stream(said):
            return said
        lines = [part.removeprefix(b"data: ") for part in said.body.split(b"\n\n") if part]
        events = change([json.loads(line) for line in lines if line != b"[DONE]"])
        text = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
        return replace(said, body=text + end)

    return Change(says=says)


def in_bodies(change: Callable[[Tree], Tree], *, status: int = 200) -> Change:
    """Change JSON answers to POSTs of this status."""

    def says(asked: Asked, said: Said) -> Said:
        if is_stream(said) or said.status != status or asked.method != "POST":
            return said
        return replace(said, body=json.dumps(change(json.loads(said.body))).encode())

    return Change(says=says)


def in_status(statuses: dict[int, int]) -> Change:
    """Give one status in place of another."""
    return Change(says=lambda _, said: replace(said, status=statuses.get(said.status, said.status)))


def in_errors(change: Callable[[Asked, Said], bytes], *, status: int) -> Change:
    """Change the body of refusals of this status, which gets the request, too."""
    return Change(says=lambda ask, said: replace(said, body=change(ask, said)) if said.status == status else said)


def in_question(change: Callable[[Tree], Tree]) -> Change:
    """Change what a POST asks for, where it is a JSON object."""

    def asks(asked: Asked) -> Asked:
        if not asked.body.startswith(b"{"):
            return asked
        return replace(asked, body=json.dumps(change(json.loads(asked.body))).encode())

    return Change(asks=asks)


def with_header(name: str, value: str) -> Change:
    """Set a header of every request."""
    return Change(asks=lambda asked: replace(asked, headers={**asked.headers, name: value}))


def on_the_page(pattern: str, value: Callable[[float], float]) -> Change:
    """Change the samples of /metrics whose name matches."""

    def line(found: re.Match[str]) -> str:
        return f"{found[1]} {value(float(found[2]))}"

    def says(_: Asked, said: Said) -> Said:
        text = re.sub(rf"(?m)^({pattern}(?:\{{[^}}]*\}})?) (\S+)$", line, said.body.decode())
        return replace(said, body=text.encode())

    return Change(says=says, where="/metrics")


def one_late() -> Change:
    """Give each question the answer to the one before it."""
    held: list[Said] = []

    def says(asked: Asked, said: Said) -> Said:
        if asked.method != "POST":
            return said
        held.append(said)
        return held[-2] if len(held) > 1 else said

    return Change(says=says)
