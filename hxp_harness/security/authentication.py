"""Ways to say who one is: each variant of the right key, and whether it may pass."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import quote

from hxp_harness.security.case import Case, Expected, request_of, sound_body, sound_bytes
from hxp_harness.target import Target

_ACCEPTED, _REFUSED, _TOLERATED = Expected.ACCEPTED, Expected.REFUSED, Expected.TOLERATED
_OUT = (Expected.REFUSED, Expected.BROKEN_OFF)
_MIN_ECHO_CHARACTERS = 8  # shorter values may stand in an answer by chance
Value = Callable[[str], str]

# what stands behind `Authorization: `, made from the right key
VALUES: tuple[tuple[str, Expected, Value], ...] = (
    ("right", _ACCEPTED, lambda key: f"Bearer {key}"),
    ("trailing space", _TOLERATED, lambda key: f"Bearer {key}  "),
    ("scheme in lower case", _TOLERATED, lambda key: f"bearer {key}"),
    ("scheme in upper case", _TOLERATED, lambda key: f"BEARER {key}"),
    ("two spaces", _TOLERATED, lambda key: f"Bearer  {key}"),
    ("tab", _TOLERATED, lambda key: f"Bearer\t{key}"),
    ("empty", _REFUSED, lambda _: ""),
    ("spaces", _REFUSED, lambda _: "   "),
    ("scheme alone", _REFUSED, lambda _: "Bearer"),
    ("scheme and space", _REFUSED, lambda _: "Bearer "),
    ("key alone", _REFUSED, lambda key: key),
    ("no space", _REFUSED, lambda key: f"Bearer{key}"),
    ("equals sign", _REFUSED, lambda key: f"Bearer={key}"),
    ("colon", _REFUSED, lambda key: f"Bearer:{key}"),
    ("comma", _REFUSED, lambda key: f"Bearer,{key}"),
    ("no-break space", _REFUSED, lambda key: f"Bearer\u00a0{key}"),
    ("basic", _REFUSED, lambda key: "Basic " + base64.b64encode(f"user:{key}".encode()).decode()),
    ("basic with the key", _REFUSED, lambda key: f"Basic {key}"),
    ("token", _REFUSED, lambda key: f"Token {key}"),
    ("digest", _REFUSED, lambda key: f'Digest username="{key}"'),
    ("negotiate", _REFUSED, lambda key: f"Negotiate {key}"),
    ("scheme twice", _REFUSED, lambda key: f"Bearer Bearer {key}"),
    ("misspelt scheme", _REFUSED, lambda key: f"Bearerr {key}"),
    ("first character changed", _REFUSED, lambda key: f"Bearer {_other(key[0])}{key[1:]}"),
    ("last character changed", _REFUSED, lambda key: f"Bearer {key[:-1]}{_other(key[-1])}"),
    ("last character missing", _REFUSED, lambda key: f"Bearer {key[:-1]}"),
    ("first character missing", _REFUSED, lambda key: f"Bearer {key[1:]}"),
    ("first half", _REFUSED, lambda key: f"Bearer {key[: max(1, len(key) // 2)]}"),
    ("one character more", _REFUSED, lambda key: f"Bearer {key}x"),
    ("twice", _REFUSED, lambda key: f"Bearer {key}{key}"),
    ("reversed", _REFUSED, lambda key: f"Bearer {key[::-1]}"),
    ("case swapped", _REFUSED, lambda key: f"Bearer {key.swapcase()}"),
    ("double quotes", _REFUSED, lambda key: f'Bearer "{key}"'),
    ("single quotes", _REFUSED, lambda key: f"Bearer '{key}'"),
    ("a word behind", _REFUSED, lambda key: f"Bearer {key} admin"),
    ("a word before", _REFUSED, lambda key: f"Bearer admin {key}"),
    ("list", _REFUSED, lambda key: f"Bearer wrong, Bearer {key}"),
    ("parameters", _REFUSED, lambda key: f"Bearer {key}; role=admin"),
    ("space inside", _REFUSED, lambda key: f"Bearer {key[:1]} {key[1:]}"),
    ("accent", _REFUSED, lambda key: f"Bearer {key}\u00e9"),
    ("emoji", _REFUSED, lambda key: f"Bearer {key}\U0001f511"),
    ("emoji alone", _REFUSED, lambda _: "Bearer \U0001f511\U0001f511\U0001f511"),
    ("full-width letters", _REFUSED, lambda key: "Bearer " + "".join(_full_width(letter) for letter in key)),
    ("zero-width space", _REFUSED, lambda key: f"Bearer {key[:1]}\u200b{key[1:]}"),
    ("right-to-left mark", _REFUSED, lambda key: f"Bearer \u202e{key}"),
    ("percent-encoded", _REFUSED, lambda key: "Bearer " + "".join(f"%{ord(letter):02x}" for letter in key)),
    ("quoted for a URL", _REFUSED, lambda key: f"Bearer {quote(f'{key}/?', safe='')}"),
    ("base64", _REFUSED, lambda key: "Bearer " + base64.b64encode(key.encode()).decode()),
    ("hexadecimal", _REFUSED, lambda key: f"Bearer {key.encode().hex()}"),
    ("sha256", _REFUSED, lambda key: f"Bearer {hashlib.sha256(key.encode()).hexdigest()}"),
    ("sql", _REFUSED, lambda _: "Bearer ' OR '1'='1' --"),
    ("like wildcard", _REFUSED, lambda _: "Bearer %"),
    ("glob wildcard", _REFUSED, lambda _: "Bearer *"),
    ("regular expression", _REFUSED, lambda _: "Bearer .*"),
    ("path", _REFUSED, lambda _: "Bearer ../../../../etc/passwd"),
    ("template", _REFUSED, lambda _: "Bearer {{7*7}}${7*7}"),
    ("null", _REFUSED, lambda _: "Bearer null"),
    ("undefined", _REFUSED, lambda _: "Bearer undefined"),
    ("None", _REFUSED, lambda _: "Bearer None"),
    ("true", _REFUSED, lambda _: "Bearer true"),
    ("zero", _REFUSED, lambda _: "Bearer 0"),
    ("empty list", _REFUSED, lambda _: "Bearer []"),
    ("unsigned token", _REFUSED, lambda _: f"Bearer {_unsigned_token()}"),
    ("vendor's example", _REFUSED, lambda _: "Bearer sk-1234567890abcdef"),
    ("EMPTY", _REFUSED, lambda _: "Bearer EMPTY"),
    ("4 KiB", _REFUSED, lambda _: "Bearer " + "k" * 4096),
    ("60 KiB", Expected.BROKEN_OFF, lambda _: "Bearer " + "k" * 61440),
)

Lines = Callable[[bytes], tuple[bytes, ...]]

# other places and shapes: whole header lines, made from the right key
LINES: tuple[tuple[str, Expected, Lines], ...] = (
    ("missing", _REFUSED, lambda _: ()),
    ("name in upper case", _ACCEPTED, lambda key: (b"AUTHORIZATION: Bearer " + key,)),
    ("wrong, then right", _TOLERATED, lambda key: (b"authorization: Bearer wrong", b"authorization: Bearer " + key)),
    ("right, then wrong", _TOLERATED, lambda key: (b"authorization: Bearer " + key, b"authorization: Bearer wrong")),
    ("empty twice", _REFUSED, lambda _: (b"authorization:", b"authorization:")),
    ("wrong twice", _REFUSED, lambda _: (b"authorization: Bearer wrong-1", b"authorization: Bearer wrong-2")),
    ("other header", _REFUSED, lambda key: (b"x-authorization: Bearer " + key,)),
    ("for a proxy", _REFUSED, lambda key: (b"proxy-authorization: Bearer " + key,)),
    ("underscore in the name", _REFUSED, lambda key: (b"authorization_: Bearer " + key,)),
    ("cookie", _REFUSED, lambda key: (b"cookie: authorization=" + key,)),
    ("forwarded user", _REFUSED, lambda _: (b"x-forwarded-user: admin", b"x-remote-user: admin")),
    ("forwarded for", _REFUSED, lambda _: (b"x-forwarded-for: 127.0.0.1", b"x-real-ip: 127.0.0.1")),
    ("original URL", _REFUSED, lambda _: (b"x-original-url: /health", b"x-rewrite-url: /health")),
    ("null byte", Expected.BROKEN_OFF, lambda key: (b"authorization: Bearer " + key + b"\0",)),
    ("invalid UTF-8", _REFUSED, lambda key: (b"authorization: Bearer " + key + b"\xff\xfe",)),
    ("folded line", Expected.BROKEN_OFF, lambda _: (b"authorization: Bearer", b" wrong")),
)


# What a host may pretend: where routes are told from a URL that the Host header is part of, `Host: x/health?` turns any
# request into one of a path that needs no key (the confusion of CVE-2026-48710).
HOSTS = (
    "x/health?",
    "x/health/live",
    "x/metrics#",
    "x/v1/models?",
    "health@x",
    "x\\health",
    "/health",
    "http://x/health",
)
# Other doors to the models: whoever is refused at one must be refused at all.
ROUTES: tuple[tuple[str, dict[str, object]], ...] = (
    ("GET models", {}),
    ("POST completions", {"prompt": "hello", "max_tokens": 1}),
    ("POST embeddings", {"input": "hello"}),
    ("POST chat/completions", {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 1, "stream": True}),
)
_EDGE = 24  # so many characters at either end of a key are tried one by one


@dataclass(frozen=True, slots=True)
class _Said:
    """One way to say who one is: header lines and a query; `word` is what no answer may repeat."""

    name: str
    expected: Expected
    lines: tuple[bytes, ...] = ()
    word: str = ""
    query: str = ""
    host: bytes = b""


def cases(target: Target) -> Iterator[Case]:
    """Yield every variant for the target's key (not empty); those that happen to be the right key are left out.

    At chat completions all of them, at the other routes those that must be refused.
    """
    said = [*_values(target.api_key), *_lines(target.api_key)]
    yield from (_case(each, "POST chat/completions", sound_bytes(target), "") for each in said)
    edits = [_Said(name, Expected.REFUSED, *_bearer(word)) for name, word in _edits(target.api_key)]
    yield from (_case(each, "POST chat/completions", sound_bytes(target), "") for each in edits)
    for route, fields in ROUTES:
        body = b"" if route.startswith("GET") else json.dumps({"model": sound_body(target)["model"], **fields}).encode()
        where = f"{route}{', streamed' if 'stream' in fields else ''}: "
        yield from (_case(each, route, body, where) for each in said if each.expected in _OUT)


def _values(key: str) -> Iterator[_Said]:
    for name, expected, value in VALUES:
        said = value(key)
        if said == f"Bearer {key}" and expected is not Expected.ACCEPTED:
            continue
        yield _Said(name, expected, (b"authorization: " + said.encode(),), said.removeprefix("Bearer ").strip())


def _lines(key: str) -> Iterator[_Said]:
    for name, expected, lines in LINES:
        yield _Said(name, expected, lines(key.encode()))
    for name in ("api_key", "key", "access_token"):
        yield _Said(f"query parameter {name}", Expected.REFUSED, query=f"?{name}={quote(key)}")
    for host in HOSTS:
        yield _Said(f"host {host}", Expected.BROKEN_OFF, host=host.encode())


def _edits(key: str) -> Iterator[tuple[str, str]]:
    """Yield the key with one character changed, left out or doubled, for each of its first and last characters."""
    places = sorted({*range(len(key))[:_EDGE], *range(len(key))[-_EDGE:]})
    for at in places:
        yield f"character {at} changed", key[:at] + _other(key[at]) + key[at + 1 :]
        yield f"character {at} left out", key[:at] + key[at + 1 :]
        yield f"character {at} doubled", key[: at + 1] + key[at:]


def _bearer(word: str) -> tuple[tuple[bytes, ...], str]:
    return (b"authorization: Bearer " + word.encode(),), word


def _case(said: _Said, route: str, body: bytes, where: str) -> Case:
    return Case(
        f"authentication: {where}{said.name}",
        said.expected,
        lambda target: request_of(target, said.lines, body, route=route, query=said.query, host=said.host),
        (said.word,) if len(said.word) >= _MIN_ECHO_CHARACTERS else (),
    )


def _other(letter: str) -> str:
    return "b" if letter == "a" else "a"


def _full_width(letter: str) -> str:
    return chr(ord(letter) + 0xFEE0) if "!" <= letter <= "~" else letter


def _unsigned_token() -> str:
    """Return a JSON web token with algorithm none."""
    parts = ({"alg": "none", "typ": "JWT"}, {"sub": "admin"})
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."
