"""Ways to say who one is: each variant of the right key, and whether it may pass."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from urllib.parse import quote

from hxp_harness.security.case import Case, Expected, request_of, sound_bytes
from hxp_harness.target import Target

_ACCEPTED, _REFUSED, _TOLERATED = Expected.ACCEPTED, Expected.REFUSED, Expected.TOLERATED
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


def cases(target: Target) -> Iterator[Case]:
    """Yield every variant for the target's key (not empty); those that happen to be the right key are left out."""
    right = f"Bearer {target.api_key}"
    for name, expected, value in VALUES:
        said = value(target.api_key)
        if said == right and expected is not Expected.ACCEPTED:
            continue
        yield _case(name, expected, (b"authorization: " + said.encode(),), said)
    for name, expected, lines in LINES:
        yield _case(name, expected, lines(target.api_key.encode()), "")
    for name in ("api_key", "key", "access_token"):
        query = f"?{name}={quote(target.api_key)}"
        yield _case(f"query parameter {name}", Expected.REFUSED, (), "", query=query)


def _case(name: str, expected: Expected, lines: tuple[bytes, ...], said: str, *, query: str = "") -> Case:
    word = said.removeprefix("Bearer ").strip()
    secrets = (word,) if len(word) >= _MIN_ECHO_CHARACTERS else ()
    return Case(
        f"authentication: {name}",
        expected,
        lambda target: request_of(target, lines, sound_bytes(target), query=query),
        secrets,
    )


def _other(letter: str) -> str:
    return "b" if letter == "a" else "a"


def _full_width(letter: str) -> str:
    return chr(ord(letter) + 0xFEE0) if "!" <= letter <= "~" else letter


def _unsigned_token() -> str:
    """Return a JSON web token with algorithm none."""
    parts = ({"alg": "none", "typ": "JWT"}, {"sub": "admin"})
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."
