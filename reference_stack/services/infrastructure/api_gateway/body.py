"""Reads a request's body: bounded in size and time, and JSON in the strict sense alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from typing import NoReturn

import msgspec
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from reference_stack.schemas.configuration.api_gateway import LimitSettings
from reference_stack.services.infrastructure.api_gateway.refusal import Refusal, bad_request, shown

# A client that sends more than it may gets to hear so only after it stops sending: this much is read and thrown away.
_DRAIN_BYTES = 32 * 1024 * 1024
_DRAIN_S = 2.0
_NESTED = (dict, list)
_MOST_COLONS = 200  # in strings; with more of them the slower parser is the faster one
_decode = msgspec.json.Decoder().decode


class _Duplicate(ValueError):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


async def read_body(headers: Iterable[tuple[bytes, bytes]], receive: Receive, limits: LimitSettings) -> bytes:
    """Return the whole body. Raises Refusal 413 or 408, and ClientDisconnect when the client goes away."""
    length = next((value for name, value in headers if name == b"content-length"), b"")
    if length.isdigit() and int(length) > limits.body_bytes:
        await _drain(receive)
        raise _too_large(limits)
    try:
        async with asyncio.timeout(limits.body_s):
            return await _read(receive, limits)
    except TimeoutError:
        message = f"the body did not arrive within {limits.body_s:g} s"
        raise Refusal(408, "body_timeout", message, close=True) from None


async def _read(receive: Receive, limits: LimitSettings) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part = message.get("body", b"")
        size += len(part)
        if size > limits.body_bytes:
            await _drain(receive)
            raise _too_large(limits)
        parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


async def _drain(receive: Receive) -> None:
    left = _DRAIN_BYTES
    try:
        async with asyncio.timeout(_DRAIN_S):
            while left > 0:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
                left -= len(message.get("body", b""))
    except TimeoutError:
        return


def _too_large(limits: LimitSettings) -> Refusal:
    return Refusal(413, "body_too_large", f"the body is larger than {limits.body_bytes} bytes", close=True)


def parse_object(body: bytes, limits: LimitSettings) -> Mapping[str, object]:
    """Return the JSON object that `body` is. Raises Refusal 400 for anything that two parsers could read differently.

    msgspec refuses NaN, infinities, lone surrogates, bad UTF-8 and trailing bytes. A name that stands twice only shows
    in the pairs that the standard library's parser hands out, which takes several times as long: it is asked where
    counting cannot rule that out.
    """
    try:
        tree = _decode(body)
        members, nested = _count(tree)
        if not _surely_unique(body, members):
            tree = json.loads(body, object_pairs_hook=_unique)
    except _Duplicate as duplicate:
        name = shown(duplicate.name)
        raise bad_request("invalid_json", f"the body names {name!r} twice", name) from None
    except RecursionError:
        raise _too_deep(limits) from None
    except (msgspec.MsgspecError, ValueError):
        raise bad_request("invalid_json", "the body is not valid JSON") from None
    if not isinstance(tree, dict):
        raise bad_request("invalid_json", "the body must be a JSON object")
    if nested > limits.body_depth:  # with fewer it cannot be that deep
        _check_depth(tree, limits)
    return tree


def _surely_unique(body: bytes, members: int) -> bool:
    """Return whether no object in `body`, which was read as a tree with so many `members`, can have a name twice.

    Each member in the text has a colon of its own, and where none stands behind white space, one right behind a quote.
    As many of either as there are members in the tree leave none for a member that the tree has lost; colons within
    strings only make the answer no.
    """
    colons = body.count(b":")
    if colons == members or colons > members + _MOST_COLONS:
        return colons == members
    before = body.split(b":")[:-1]
    return not any(map(_ends_in_space, before)) and sum(map(_ends_in_quote, before)) == members


def _ends_in_space(data: bytes) -> bool:
    return data.endswith((b" ", b"\n", b"\t", b"\r"))


def _ends_in_quote(data: bytes) -> bool:
    return data.endswith(b'"')


def _count(tree: object) -> tuple[int, int]:
    """Return how many members all objects in `tree` have together, and how many objects and lists there are."""
    members = 0
    nested = [tree]
    for node in nested:  # grows meanwhile
        children: Iterable[object] = ()
        if type(node) is dict:
            members += len(node)
            children = node.values()
        elif type(node) is list:
            children = node
        nested += [each for each in children if type(each) in _NESTED]
    return members, len(nested)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _Duplicate(name)
            seen.add(name)
    return found


def _check_depth(tree: object, limits: LimitSettings) -> None:
    level: list[object] = [tree]
    for _ in range(limits.body_depth + 1):
        level = [child for node in level for child in _children(node)]
        if not level:
            return
    raise _too_deep(limits)


def _children(node: object) -> Iterable[object]:
    if isinstance(node, dict):
        return node.values()
    return node if isinstance(node, list) else ()


def _too_deep(limits: LimitSettings) -> Refusal:
    return bad_request("invalid_json", f"the body is nested deeper than {limits.body_depth} levels")


def refuse_type() -> NoReturn:
    """Refuse a body that does not call itself JSON."""
    raise bad_request("unsupported_media_type", "the body must be application/json", "Content-Type")
