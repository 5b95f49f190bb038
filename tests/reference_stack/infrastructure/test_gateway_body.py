"""Bodies that the gateway refuses, and how it says so."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference_stack.schemas.configuration.api_gateway import LimitSettings
from reference_stack.services.infrastructure.api_gateway.body import parse_object
from reference_stack.services.infrastructure.api_gateway.refusal import Refusal
from tests.reference_stack.infrastructure.conftest import Gateway, MakeGateway, chat, exchange

LIMITS = LimitSettings()
HEAD = b'{"model":"mixtral","messages":[{"role":"user","content":"x"}]'
BAD_JSON = {
    "empty": b"",
    "blank": b"  ",
    "torn": b'{"model": "x", ',
    "array": b"[1, 2]",
    "string": b'"x"',
    "null": b"null",
    "trailing": HEAD + b"} x",
    "two": HEAD + b"}{}",
    "nan": HEAD + b',"temperature":NaN}',
    "infinity": HEAD + b',"temperature":-Infinity}',
    "overflow": HEAD + b',"temperature":1e400}',
    "big integer": HEAD + b',"seed":' + b"9" * 5000 + b"}",
    "lone surrogate": HEAD + b',"user":"\\ud800x"}',
    "bad utf-8": HEAD + b',"user":"\xff"}',
    "encoded surrogate": HEAD + b',"user":"\xed\xa0\x80"}',
    "control character": HEAD + b',"user":"\x01"}',
    "bom": b"\xef\xbb\xbf" + HEAD + b"}",
    "utf-16": (HEAD + b"}").decode().encode("utf-16"),
    "comment": HEAD + b"/* */}",
    "single quotes": b"{'model': 'mixtral'}",
    "deep": b'{"a":' * 33 + b"1" + b"}" * 33,
    "deep list": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "duplicate": HEAD + b',"model":"phi3"}',
    "duplicate inside": b'{"model":"mixtral","messages":[{"role":"user","content":"x","content":"y"}]}',
    "duplicate by escape": HEAD + b',"mod\\u0065l":"phi3"}',
}


@pytest.mark.parametrize("name", BAD_JSON)
def test_what_is_not_strict_json_is_a_400(gateway: Gateway, name: str) -> None:
    """What two parsers could read in two ways reaches no model."""
    reply = gateway.post(BAD_JSON[name])

    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_json")
    assert reply.json()["error"]["request_id"] == reply.headers["x-request-id"]
    assert len(reply.content) < 8192
    assert gateway.backend.asked == []


def test_a_duplicate_key_is_named_and_a_long_one_is_not_repeated(gateway: Gateway) -> None:
    """A short name may be shown; what is longer than 64 characters may not."""
    assert gateway.post(HEAD + b',"model":"phi3"}').json()["error"]["param"] == "model"
    long = b"n" * 65
    reply = gateway.post(HEAD + b',"%s":1,"%s":2}' % (long, long))
    assert (reply.status_code, long.decode() in reply.text) == (400, False)


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"])
def test_only_json_is_taken(gateway: Gateway, kind: str) -> None:
    """A browser's form cannot reach a model."""
    reply = gateway.post(chat(), **{"content-type": kind})

    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "unsupported_media_type")


def test_json_may_name_its_charset(gateway: Gateway) -> None:
    """The parameters of the media type, and its case, do not matter."""
    assert gateway.post(chat(), **{"content-type": "Application/JSON; charset=utf-8"}).status_code == 200


@pytest.mark.owasp("API4:2023")
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_a_413(make_gateway: MakeGateway, chunked: bool) -> None:
    """A large body is refused whether it says its length or not, and the client gets to read so."""
    gateway = make_gateway(limits={"body_bytes": 10_000})
    body = json.dumps(chat(user="x" * 300_000)).encode()

    reply = gateway.http.post(
        "/v1/chat/completions", content=iter([body[:5000], body[5000:9000], body[9000:]]) if chunked else body
    )

    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "body_too_large")
    assert reply.headers["connection"] == "close"
    assert gateway.post(chat()).status_code == 200


@pytest.mark.owasp("API4:2023")
def test_large_headers_are_a_431(make_gateway: MakeGateway) -> None:
    """Headers have a limit of their own."""
    gateway = make_gateway(limits={"header_bytes": 2000})

    assert gateway.post(chat(), **{"x-large": "x" * 2000}).status_code == 431


@pytest.mark.owasp("API8:2023")
def test_one_host_header_is_needed(gateway: Gateway) -> None:
    """None or two of them are refused, since a proxy could route by the other one."""
    for hosts in ([], [b"host: a", b"host: b"]):
        status, error = exchange(gateway, [b"GET /v1/models HTTP/1.1", *hosts])
        assert (status, error["code"]) == (400, "invalid_host")


def test_a_body_at_the_depth_limit_is_read() -> None:
    """The limit itself is allowed; many brackets side by side are not depth."""
    assert parse_object(b'{"a":' * 32 + b"1" + b"}" * 32, LIMITS)
    assert parse_object(json.dumps({"a": [[n] for n in range(100)]}).encode(), LIMITS)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=50)
@given(st.dictionaries(st.text(), JSON, max_size=3))
def test_every_honest_object_is_read_as_it_is(value: dict[str, object]) -> None:
    """What the standard library writes is read back the same."""
    assert parse_object(json.dumps(value).encode(), LIMITS) == value


SPACE = st.sampled_from(["", "", "", " ", "\n", "\t ", "\r"])
NAME = st.sampled_from(['"a"', '"b"', '"\\u0061"', '"a\\":"', '": "', '" :"'])


@st.composite
def texts(draw: st.DrawFn) -> tuple[str, bool]:
    """Return an object as text, with names that may stand twice, and whether one does."""
    twice = False

    def value(depth: int) -> str:
        kind = draw(st.sampled_from(["name", "number", "list", "object"] if depth < 3 else ["name", "number"]))
        if kind == "object":
            return members(depth + 1)
        if kind == "list":
            return "[" + ",".join(value(depth + 1) for _ in range(draw(st.integers(0, 3)))) + "]"
        return draw(NAME) if kind == "name" else "1"

    def members(depth: int) -> str:
        nonlocal twice
        names = draw(st.lists(NAME, max_size=3))
        twice = twice or len({json.loads(name) for name in names}) < len(names)
        space = [draw(SPACE) for _ in range(3)]
        return "{" + ",".join(f"{space[0]}{each}{space[1]}:{space[2]}{value(depth)}" for each in names) + "}"

    return members(0), twice


@given(texts())
@settings(max_examples=500)
def test_no_name_stands_twice(drawn: tuple[str, bool]) -> None:
    """A name that stands twice in one object is found wherever it is and however it is written; nothing else is."""
    text, twice = drawn
    if twice:
        with pytest.raises(Refusal, match="twice"):
            parse_object(text.encode(), LIMITS)
    else:
        assert parse_object(text.encode(), LIMITS) == json.loads(text)


@pytest.mark.owasp("API8:2023")
@given(st.binary(max_size=200))
def test_no_bytes_break_the_parser(body: bytes) -> None:
    """Whatever the bytes, they are an object or a 400."""
    found: object
    try:
        found = parse_object(body, LIMITS)
    except Refusal as refusal:
        found = refusal.status

    assert isinstance(found, dict) or found == 400
