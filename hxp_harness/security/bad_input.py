"""Bodies that no server should take, or fall over."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from hxp_harness.security import framing
from hxp_harness.security.case import CANARY, Case, Expected, key_header, request_of, sound_body, sound_bytes
from hxp_harness.security.kinds import wrong_kinds
from hxp_harness.target import Target

_REFUSED, _TOLERATED = Expected.REFUSED, Expected.TOLERATED
_DEEP = 50_000

# the whole body as it is
BODIES: tuple[tuple[str, Expected, bytes], ...] = (
    ("empty", _REFUSED, b""),
    ("white space", _REFUSED, b" \r\n\t "),
    ("null", _REFUSED, b"null"),
    ("true", _REFUSED, b"true"),
    ("number", _REFUSED, b"42"),
    ("string", _REFUSED, f'"{CANARY}"'.encode()),
    ("array", _REFUSED, f'["{CANARY}"]'.encode()),
    ("empty object", _REFUSED, b"{}"),
    ("open brace", _REFUSED, b"{"),
    ("cut off", _REFUSED, f'{{"model": "{CANARY}'.encode()),
    ("trailing comma", _REFUSED, f'{{"model": "{CANARY}",}}'.encode()),
    ("single quotes", _REFUSED, f"{{'model': '{CANARY}'}}".encode()),
    ("comment", _REFUSED, f'{{"model": 1 /* {CANARY} */}}'.encode()),
    ("two objects", _REFUSED, b"{}{}"),
    ("form", _REFUSED, f"model={CANARY}&max_tokens=1".encode()),
    ("xml", _REFUSED, f'<!DOCTYPE a [<!ENTITY b "{CANARY}">]><a>&b;</a>'.encode()),
    ("yaml", _REFUSED, f"model: {CANARY}\n".encode()),
    ("null bytes", _REFUSED, b"\0" * 64),
    ("invalid UTF-8", _REFUSED, b'{"model": "\xff\xfe\xc3("}'),
    ("overlong UTF-8", _REFUSED, b'{"model": "\xc0\xaf"}'),
    ("raw control character", _REFUSED, f'{{"model": "{CANARY}\n"}}'.encode()),
    ("deep arrays", _REFUSED, b"[" * _DEEP + b"]" * _DEEP),
    ("deep objects", _REFUSED, b'{"a":' * _DEEP + b"1" + b"}" * _DEEP),
    ("deep and open", _REFUSED, b"[" * _DEEP),
)

# fields of a sound request, replaced by JSON text (which need not be sound)
FIELDS: tuple[tuple[str, Expected, str, str], ...] = (
    ("NaN", _REFUSED, "temperature", "NaN"),
    ("infinity", _REFUSED, "temperature", "Infinity"),
    ("minus infinity", _REFUSED, "temperature", "-Infinity"),
    ("1e400 as temperature", _REFUSED, "temperature", "1e400"),
    ("1e400 as max_tokens", _REFUSED, "max_tokens", "1e400"),
    ("temperature below", _REFUSED, "temperature", "-1"),
    ("temperature above", _REFUSED, "temperature", "1000"),
    ("temperature text", _REFUSED, "temperature", f'"{CANARY}"'),
    ("temperature list", _REFUSED, "temperature", "[1]"),
    ("top_p zero", _REFUSED, "top_p", "0"),
    ("top_p above", _REFUSED, "top_p", "2"),
    ("top_p NaN", _REFUSED, "top_p", "NaN"),
    ("max_tokens zero", _REFUSED, "max_tokens", "0"),
    ("max_tokens negative", _REFUSED, "max_tokens", "-1"),
    ("max_tokens broken", _REFUSED, "max_tokens", "1.5"),
    ("max_tokens text", _REFUSED, "max_tokens", f'"{CANARY}"'),
    ("max_tokens list", _REFUSED, "max_tokens", "[1]"),
    ("max_tokens object", _REFUSED, "max_tokens", f'{{"{CANARY}": 1}}'),
    ("max_tokens 2^31", _REFUSED, "max_tokens", str(2**31)),
    ("max_tokens 2^63", _REFUSED, "max_tokens", str(2**63)),
    ("max_tokens 2^64", _REFUSED, "max_tokens", str(2**64)),
    ("max_tokens of 5000 digits", _REFUSED, "max_tokens", "9" * 5000),
    ("max_tokens true", _TOLERATED, "max_tokens", "true"),
    ("max_tokens null", _TOLERATED, "max_tokens", "null"),
    ("n zero", _REFUSED, "n", "0"),
    ("n negative", _REFUSED, "n", "-1"),
    ("n huge", _REFUSED, "n", "100000"),
    ("n 2^63", _REFUSED, "n", str(2**63)),
    ("n text", _REFUSED, "n", f'"{CANARY}"'),
    ("stream text", _REFUSED, "stream", f'"{CANARY}"'),
    ("stream list", _REFUSED, "stream", "[true]"),
    ("stream number", _REFUSED, "stream", "2"),
    ("stream_options text", _REFUSED, "stream_options", f'"{CANARY}"'),
    ("stream_options without stream", _TOLERATED, "stream_options", '{"include_usage": true}'),
    ("stop number", _REFUSED, "stop", "7"),
    ("stop object", _REFUSED, "stop", f'{{"{CANARY}": 1}}'),
    ("stop with an empty string", _TOLERATED, "stop", '[""]'),
    ("stop of many", _TOLERATED, "stop", json.dumps([f"s{number}" for number in range(5000)])),
    ("presence_penalty above", _REFUSED, "presence_penalty", "3"),
    ("frequency_penalty text", _REFUSED, "frequency_penalty", f'"{CANARY}"'),
    ("logit_bias list", _REFUSED, "logit_bias", "[1]"),
    ("logit_bias of no token", _TOLERATED, "logit_bias", f'{{"{CANARY}": 1}}'),
    ("top_logprobs above", _REFUSED, "top_logprobs", "99"),
    ("seed text", _REFUSED, "seed", f'"{CANARY}"'),
    ("seed 2^70", _TOLERATED, "seed", str(2**70)),
    ("response_format text", _TOLERATED, "response_format", f'"{CANARY}"'),
    ("tools text", _TOLERATED, "tools", f'"{CANARY}"'),
    ("model number", _REFUSED, "model", "7"),
    ("model list", _REFUSED, "model", f'["{CANARY}"]'),
    ("model object", _REFUSED, "model", f'{{"{CANARY}": 1}}'),
    ("model unknown", _REFUSED, "model", f'"{CANARY}"'),
    ("model of 100 KiB", _REFUSED, "model", f'"{CANARY * 5000}"'),
    ("model as a path", _REFUSED, "model", f'"../../../../etc/{CANARY}"'),
    ("model with a line break", _REFUSED, "model", f'"{CANARY}\\r\\nset-cookie: a=b"'),
    ("model with markup", _REFUSED, "model", f'"<script>{CANARY}</script>"'),
    ("model as a lone surrogate", _REFUSED, "model", '"\\ud800"'),
    ("model empty", _TOLERATED, "model", '""'),
    ("model null", _TOLERATED, "model", "null"),
    ("messages null", _REFUSED, "messages", "null"),
    ("messages text", _REFUSED, "messages", f'"{CANARY}"'),
    ("messages object", _REFUSED, "messages", f'{{"{CANARY}": 1}}'),
    ("messages empty", _REFUSED, "messages", "[]"),
    ("messages of texts", _REFUSED, "messages", f'["{CANARY}"]'),
    ("messages of nulls", _REFUSED, "messages", "[null]"),
    ("messages of lists", _REFUSED, "messages", "[[]]"),
    ("message without role", _TOLERATED, "messages", f'[{{"content": "{CANARY}"}}]'),
    ("role number", _REFUSED, "messages", '[{"role": 7, "content": "a"}]'),
    ("role unknown", _TOLERATED, "messages", f'[{{"role": "{CANARY}", "content": "a"}}]'),
    ("content number", _REFUSED, "messages", '[{"role": "user", "content": 7}]'),
    ("content object", _REFUSED, "messages", f'[{{"role": "user", "content": {{"{CANARY}": 1}}}}]'),
    ("content null", _TOLERATED, "messages", '[{"role": "user", "content": null}]'),
    (
        "content of a local file",
        _REFUSED,
        "messages",
        '[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}]',
    ),
    ("content as a lone surrogate", _TOLERATED, "messages", '[{"role": "user", "content": "\\ud800"}]'),
    ("content as a null character", _TOLERATED, "messages", '[{"role": "user", "content": "\\u0000"}]'),
    ("unknown field", _TOLERATED, "no_such_field", f'"{CANARY}"'),
    ("prototype", _TOLERATED, "__proto__", f'{{"{CANARY}": true}}'),
    ("empty field name", _TOLERATED, "", "1"),
    ("field name of 100 KiB", _TOLERATED, CANARY * 5000, "1"),
    ("deep unknown field", _TOLERATED, "deep", "[" * 900 + "]" * 900),
    ("very deep unknown field", _TOLERATED, "deep", "[" * _DEEP + "]" * _DEEP),
)


def _posted(body: bytes) -> Callable[[Target], bytes]:
    """Return a sound request with another body."""
    return lambda target: request_of(target, key_header(target), body)


def cases(target: Target) -> Iterator[Case]:
    """Yield every body, field and framing for `target`."""
    for name, expected, body in BODIES:
        yield Case(f"body: {name}", expected, _posted(body))
    for name, expected, field, text in (*FIELDS, *wrong_kinds()):
        body = _with_field(target, field, text)
        yield Case(f"field: {name}", expected, _posted(body))
    doubled = sound_bytes(target)[:-1] + f', "model": "{CANARY}"}}'.encode()
    yield Case("body: the model twice", _TOLERATED, _posted(doubled))
    many = json.dumps(sound_body(target) | {f"f{number}": number for number in range(10_000)}).encode()
    yield Case("body: 10,000 unknown fields", _TOLERATED, _posted(many))
    for name, expected, build in (*framing.FRAMINGS, *framing.HOSTS):
        yield Case(f"framing: {name}", expected, build)


def _with_field(target: Target, field: str, text: str) -> bytes:
    """Return the sound body with one field whose JSON text is `text`."""
    fields = {name: json.dumps(value) for name, value in sound_body(target).items()} | {field: text}
    return ("{" + ", ".join(f"{json.dumps(name)}: {value}" for name, value in fields.items()) + "}").encode()
