"""What makes two requests belong together: the same session, or the same beginning of a conversation."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

_FIRST_BYTES = 1024
_SYSTEM = ("system", "developer")


def affinity_of(request: Mapping[str, object], tenant: str, session: str = "") -> int:
    """Return 64 bits that are equal for requests whose prefix a model's server may still hold in its cache.

    `session`, or else the request's `user`, decides where given; otherwise the first KiB of the conversation's opening:
    its system message and its first turn, which stay the same while the conversation grows, or of a prompt. Tenants are
    kept apart: they share no cache.
    """
    user = request.get("user")
    if session or (isinstance(user, str) and user):
        opening = f"s{session or user}"
    elif "messages" in request:
        opening = "m" + _opening(request["messages"])
    else:
        opening = "p" + _text(request.get("prompt", request.get("input")))
    text = f"{tenant}\0{opening}".encode(errors="replace")[: _FIRST_BYTES + len(tenant)]
    return int.from_bytes(blake2b(text, digest_size=8).digest())


def _opening(messages: object) -> str:
    words = []
    for message in messages if isinstance(messages, list) else ():
        if not isinstance(message, dict):
            continue
        words.append(_text(message.get("content")))
        if message.get("role") not in _SYSTEM:
            break
    return "\0".join(words)


def _text(content: object) -> str:
    if isinstance(content, str):
        return content[:_FIRST_BYTES]
    if isinstance(content, list):
        return str(content[:_FIRST_BYTES])[:_FIRST_BYTES]
    return ""
