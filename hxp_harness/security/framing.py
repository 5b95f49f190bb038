"""Raw HTTP that no server should take for a request, or fall over."""

from __future__ import annotations

from collections.abc import Callable

from hxp_harness.security.case import Expected, key_header, request_of, sound_bytes
from hxp_harness.target import Target

_TOLERATED, _BROKEN_OFF = Expected.TOLERATED, Expected.BROKEN_OFF

Raw = Callable[[Target], bytes]


def _framed(*lines: bytes, body: bytes | None = None, start: bytes = b"", host: bool = True) -> Raw:
    """Return a request with `lines` in place of a sound framing."""

    def build(target: Target) -> bytes:
        path = target.base_url.split("://", 1)[1].partition("/")[2].encode()
        first = start or b"POST /%b/chat/completions HTTP/1.1" % path
        name = (f"host: {target.host}".encode(),) if host else ()
        head = (first, *name, *key_header(target), b"content-type: application/json", *lines)
        return b"\r\n".join(head) + b"\r\n\r\n" + (sound_bytes(target) if body is None else body)

    return build


def _chunked(body: bytes, *lines: bytes) -> Raw:
    return _framed(b"transfer-encoding: chunked", *lines, body=body)


def _started(start: bytes) -> Raw:
    """Return a sound request but for its first line, in which `~` stands for the path."""

    def build(target: Target) -> bytes:
        path = target.base_url.split("://", 1)[1].partition("/")[2].encode() + b"/chat/completions"
        return _framed(*_length(target), b"connection: close", start=start.replace(b"~", b"/" + path))(target)

    return build


def _hosted(host: bytes) -> Raw:
    return lambda target: request_of(target, key_header(target), sound_bytes(target), host=host)


def _as_is(request: bytes) -> Raw:
    return lambda _: request


def _sized(*lines: bytes) -> Raw:
    """Return a sound request with `lines` more."""
    return lambda target: request_of(target, (*key_header(target), *lines), sound_bytes(target))


def _length(target: Target) -> tuple[bytes, ...]:
    return (b"content-length: %d" % len(sound_bytes(target)),)


FRAMINGS: tuple[tuple[str, Expected, Raw], ...] = (
    ("length and chunks", _BROKEN_OFF, _framed(b"content-length: 4", b"transfer-encoding: chunked", body=b"0\r\n\r\n")),
    ("two lengths", _BROKEN_OFF, _framed(b"content-length: 2", b"content-length: 3", body=b"{}x")),
    ("list of lengths", _BROKEN_OFF, _framed(b"content-length: 2, 3", body=b"{}x")),
    ("negative length", _BROKEN_OFF, _framed(b"content-length: -1", body=b"{}")),
    ("length with a sign", _BROKEN_OFF, _framed(b"content-length: +2", body=b"{}")),
    ("length as a word", _BROKEN_OFF, _framed(b"content-length: two", body=b"{}")),
    ("length of 40 digits", _BROKEN_OFF, _framed(b"content-length: " + b"9" * 40, body=b"{}")),
    ("chunk size as a word", _BROKEN_OFF, _framed(b"transfer-encoding: chunked", body=b"zz\r\n{}\r\n0\r\n\r\n")),
    ("negative chunk size", _BROKEN_OFF, _framed(b"transfer-encoding: chunked", body=b"-2\r\n{}\r\n0\r\n\r\n")),
    ("huge chunk size", _BROKEN_OFF, _framed(b"transfer-encoding: chunked", body=b"f" * 20 + b"\r\n{}\r\n")),
    ("chunk size in hexadecimal with 0x", _BROKEN_OFF, _chunked(b"0x2\r\n{}\r\n0\r\n\r\n")),
    ("chunk size with a sign", _BROKEN_OFF, _chunked(b"+2\r\n{}\r\n0\r\n\r\n")),
    ("chunk size with an underscore", _BROKEN_OFF, _chunked(b"0_2\r\n{}\r\n0\r\n\r\n")),
    ("empty chunk size", _BROKEN_OFF, _chunked(b"\r\n{}\r\n0\r\n\r\n")),
    ("chunk without its line's end", _BROKEN_OFF, _chunked(b"2\r\n{}0\r\n\r\n")),
    ("chunk longer than it says", _BROKEN_OFF, _chunked(b"1\r\n{}\r\n0\r\n\r\n")),
    ("chunk with an extension of 64 KiB", _TOLERATED, _chunked(b"2;" + b"a" * 65536 + b"\r\n{}\r\n0\r\n\r\n")),
    ("trailer with a length", _TOLERATED, _chunked(b"2\r\n{}\r\n0\r\ncontent-length: 9\r\n\r\n")),
    ("trailer with a key", _TOLERATED, _chunked(b"2\r\n{}\r\n0\r\nauthorization: Bearer x\r\n\r\n")),
    ("chunked, then identity", _BROKEN_OFF, _framed(b"transfer-encoding: chunked, identity", body=b"0\r\n\r\n")),
    ("chunked twice", _TOLERATED, _chunked(b"2\r\n{}\r\n0\r\n\r\n", b"transfer-encoding: chunked")),
    ("a word that ends in chunked", _BROKEN_OFF, _framed(b"transfer-encoding: xchunked", body=b"0\r\n\r\n")),
    ("chunked behind a vertical tab", _BROKEN_OFF, _framed(b"transfer-encoding: \x0bchunked", body=b"0\r\n\r\n")),
    ("chunks that nobody announced", _TOLERATED, _sized(b"transfer_encoding: chunked")),
    ("length in hexadecimal", _BROKEN_OFF, _framed(b"content-length: 0x2", body=b"{}")),
    ("length with an underscore", _BROKEN_OFF, _framed(b"content-length: 0_2", body=b"{}")),
    ("length as a fraction", _BROKEN_OFF, _framed(b"content-length: 2.0", body=b"{}")),
    ("length with a space inside", _BROKEN_OFF, _framed(b"content-length: 0 2", body=b"{}")),
    ("length in full-width digits", _BROKEN_OFF, _framed("content-length: \uff12".encode(), body=b"{}")),
    ("empty length", _BROKEN_OFF, _framed(b"content-length:", body=b"{}")),
    ("unknown transfer", _BROKEN_OFF, _framed(b"transfer-encoding: nonsense", body=b"")),
    ("no version", _BROKEN_OFF, _as_is(b"POST /v1/chat/completions\r\n\r\n")),
    ("version 9.9", _BROKEN_OFF, _framed(b"content-length: 0", start=b"POST / HTTP/9.9", body=b"")),
    ("version 2.0", _TOLERATED, _started(b"POST ~ HTTP/2.0")),
    ("version in lower case", _BROKEN_OFF, _started(b"POST ~ http/1.1")),
    ("method in lower case", _BROKEN_OFF, _started(b"post ~ HTTP/1.1")),
    ("method with a null byte", _BROKEN_OFF, _started(b"PO\0ST ~ HTTP/1.1")),
    ("no slash before the path", _BROKEN_OFF, _started(b"POST v1/chat/completions HTTP/1.1")),
    ("asterisk for a path", _BROKEN_OFF, _started(b"POST * HTTP/1.1")),
    ("space in the path", _BROKEN_OFF, _started(b"POST ~ x HTTP/1.1")),
    ("null byte in the path", _BROKEN_OFF, _started(b"POST ~\0 HTTP/1.1")),
    ("line feed in the path", _BROKEN_OFF, _started(b"POST ~\nx HTTP/1.1")),
    ("tabs in the first line", _BROKEN_OFF, _started(b"POST\t~\tHTTP/1.1")),
    ("two spaces in the first line", _TOLERATED, _started(b"POST  ~ HTTP/1.1")),
    ("path of dots", _TOLERATED, _started(b"POST /a/..~ HTTP/1.1")),
    ("path with a fragment", _TOLERATED, _started(b"POST ~#a HTTP/1.1")),
    ("path of half a percent sign", _TOLERATED, _started(b"POST ~?a=%e HTTP/1.1")),
    ("path of another host", _TOLERATED, _started(b"POST http://another.test~ HTTP/1.1")),
    ("tunnel to another host", _BROKEN_OFF, _as_is(b"CONNECT another.test:443 HTTP/1.1\r\nhost: another.test\r\n\r\n")),
    ("HTTP/2 without asking", _BROKEN_OFF, _as_is(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")),
    ("head in UTF-16", _BROKEN_OFF, _as_is("GET / HTTP/1.1\r\n\r\n".encode("utf-16") + b"\r\n\r\n")),
    ("mail", _BROKEN_OFF, _as_is(b"EHLO another.test\r\n\r\n")),
    ("a proxy's line before it", _BROKEN_OFF, _as_is(b"PROXY TCP4 127.0.0.9 127.0.0.1 9 9\r\nGET / HTTP/1.1\r\n\r\n")),
    ("not HTTP", _BROKEN_OFF, _as_is(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64 + b"\r\n\r\n")),
    ("space in a header's name", _BROKEN_OFF, _sized(b"x y: z")),
    ("space before the colon", _BROKEN_OFF, _sized(b"x-y : z")),
    ("header without colon", _BROKEN_OFF, _sized(b"nonsense")),
    ("null byte in a header", _BROKEN_OFF, _sized(b"x-y: a\0b")),
    ("carriage return in a header", _BROKEN_OFF, _sized(b"x-y: a\rb")),
    ("bell in a header", _BROKEN_OFF, _sized(b"x-y: a\x07b")),
    ("header without a name", _BROKEN_OFF, _sized(b": a")),
    ("header with another alphabet's name", _BROKEN_OFF, _sized("x-\u00e9: a".encode())),
    ("header with a name of 64 KiB", _BROKEN_OFF, _sized(b"x" * 65536 + b": a")),
    ("5,000 more headers", _BROKEN_OFF, _sized(*(b"x-%d: aaaaaaaaaaaaaaaa" % number for number in range(5000)))),
    ("folded header", _BROKEN_OFF, _sized(b"x-y: a", b" b")),
    ("header of 128 KiB", _BROKEN_OFF, _sized(b"x-y: " + b"a" * 131072)),
    (
        "path of 128 KiB",
        _BROKEN_OFF,
        _framed(b"content-length: 0", start=b"GET /" + b"a" * 131072 + b" HTTP/1.1", body=b""),
    ),
    ("unknown method", _BROKEN_OFF, _framed(b"content-length: 0", start=b"BREW /v1/models HTTP/1.1", body=b"")),
    ("100 more headers", _TOLERATED, _sized(*(b"x-%d: a" % number for number in range(100)))),
    ("expectation", _TOLERATED, _sized(b"expect: nonsense")),
    ("another method in a header", _TOLERATED, _sized(b"x-http-method-override: DELETE")),
    ("key named as one hop's", _TOLERATED, _sized(b"connection: authorization")),
    ("length named as one hop's", _TOLERATED, _sized(b"connection: content-length")),
    ("web socket", _TOLERATED, _sized(b"upgrade: websocket", b"sec-websocket-version: 13", b"sec-websocket-key: eA==")),
    ("upgrade", _TOLERATED, _sized(b"upgrade: h2c", b"http2-settings: AAMAAABkAAQAAP__")),
    ("encoded as gzip, and is not", _TOLERATED, _sized(b"content-encoding: gzip")),
)
# RFC 9112 wants 400; servers with httptools let them pass
HOSTS: tuple[tuple[str, Expected, Raw], ...] = (
    ("no host", _TOLERATED, lambda target: _framed(b"connection: close", *_length(target), host=False)(target)),
    ("two hosts", _TOLERATED, _sized(b"host: another.test")),
    ("empty host", _TOLERATED, _hosted(b" ")),
    ("host with a user", _TOLERATED, _hosted(b"admin@localhost")),
    ("host with a path", _TOLERATED, _hosted(b"localhost/health")),
    ("host with a space", _TOLERATED, _hosted(b"local host")),
)
