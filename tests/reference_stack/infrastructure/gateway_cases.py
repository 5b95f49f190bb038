"""Requests as clients may send them, well formed and not, in any framing and cut anywhere; and what comes back."""

from __future__ import annotations

import itertools
import json
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

from hypothesis import strategies as st

from tests.reference_stack.infrastructure.conftest import DONE, KEY, PHI3_KEY, TEXTS, Wire, event, well

BODY_BYTES = 20_000  # the limit that the gateways under these cases have
_WAIT_S = 20.0

T = TypeVar("T")


# What the model does, by the request's `user`.


async def _closes(wire: Wire) -> None:
    wire.keeps = False


async def _busy(wire: Wire) -> None:
    await wire.answer(b"{}", 429, "text/plain", "retry-after: 3")


async def _refuses(wire: Wire) -> None:
    await wire.answer(b'{"error":{"message":"max_model_len"}}', 400)


async def _errs(wire: Wire) -> None:
    if wire.asked.json.get("stream"):
        await wire.stream(*TEXTS[:2], event({"error": {"message": "secret"}}), DONE)
        await wire.end()
    else:
        await wire.answer(b'{"error":{"message":"secret"}}')


async def _breaks(wire: Wire) -> None:
    wire.keeps = False
    if wire.asked.json.get("stream"):
        await wire.stream(*TEXTS[:2])
    else:
        await wire.head(200, "application/json", "content-length: 1000")
        await wire.send(b'{"choices"')


async def _shreds(wire: Wire) -> None:
    whole = b"".join((*TEXTS, DONE))
    if wire.asked.json.get("stream"):
        await wire.stream(*(whole[i : i + 97] for i in range(0, len(whole), 97)))
        await wire.end()
    else:
        await well(wire)


MODELS = {"closes": _closes, "busy": _busy, "refuses": _refuses, "errs": _errs, "breaks": _breaks, "shreds": _shreds}


async def model(wire: Wire) -> None:
    """Do what the request's `user` says; keep the connection where that allows it."""
    wire.keeps = True
    await MODELS.get(str(wire.asked.json.get("user")), well)(wire)


# What clients send.


@dataclass(frozen=True)
class Sent:
    """One request as bytes, and what its answer's reader must know of it."""

    method: str
    data: bytes


@dataclass(frozen=True)
class Case:
    """What goes over one connection: `cuts` are where the bytes are split; all at once or one after another."""

    requests: tuple[Sent, ...]
    cuts: tuple[int, ...]
    pipelined: bool


def _mostly(usual: Sequence[T], *rest: T, in_all: int = 14) -> st.SearchStrategy[T]:
    """Draw from `rest` once in `in_all` times; a choice among strategies would drop equal ones."""
    choices = st.sampled_from(usual), st.sampled_from(rest)
    return st.integers(1, in_all).flatmap(lambda drawn: choices[drawn == in_all])


TARGETS = _mostly(
    ("/v1/chat/completions", "/v1/completions"),
    *("/v1/models", "/health/live", "/nope", "/", "*", "/v1/chat/completions?x=1", "/v1/chat/completions/"),
    *("/V1/chat/completions", "//v1/chat/completions", "/v1/chat%2fcompletions", "http://x/v1/chat/completions"),
)
METHODS = _mostly(("POST",), "GET", "PUT", "HEAD", "OPTIONS", "DELETE")
HOSTS = _mostly(("host: x",), "", "host: x\r\nhost: x", "HOST: x", "host:", "Host : x")
KEYS = _mostly(
    (f"authorization: Bearer {KEY}", f"Authorization: bearer {KEY}"),
    "authorization: Bearer no-such-key",
    "",
    f"authorization: Bearer {KEY}\r\nauthorization: Bearer {KEY}",
    f"authorization: Basic {KEY}",
    f"authorization: Bearer {PHI3_KEY}",
    "authorization: Bearer \xe9",
)
KINDS = _mostly(
    ("content-type: application/json", "Content-Type: APPLICATION/JSON; charset=utf-8"),
    *("content-type: text/plain", "", "content-type: application/json\r\ncontent-type: text/plain"),
)
IDS = _mostly(("x-request-id: sane-1", ""), "x-request-id: in sane", "x-request-id: a\r\nx-request-id: b")
EXTRAS = _mostly(
    ("", "x-padding: " + "y" * 300),
    *("expect: 100-continue", "Expect: 100-Continue", "expect: 200-maybe", "te: trailers"),
    *("upgrade: websocket\r\nconnection: upgrade", "upgrade: h2c\r\nconnection: upgrade", "connection: keep-alive"),
    *("x-folded: a\r\n b", "x-zero: \x00", "x-big: " + "z" * 9000),
)
GOOD_BODIES = st.fixed_dictionaries(
    {"model": _mostly(("mixtral", "phi3"), "nope")},
    optional={
        "stream": st.booleans(),
        "user": st.sampled_from(["well", *MODELS]),
        "max_tokens": _mostly((1, 16), 0, 10**9),
    },
).map(lambda more: json.dumps({"messages": [{"role": "user", "content": "say “one”"}], **more}).encode())
ODD_BODIES = st.sampled_from(
    [
        b"",
        b"null",
        b"[]",
        b'{"model":"mixtral","model":"phi3","messages":[]}',
        b'{"model":"mixtral","messages":[{"role":"user","content":"x"}],"temperature":NaN}',
        b'{"model":"mixtral","messages":[{"role":"user","content":"x"}],"no_such_parameter":1}',
        b'{"model":"mixtral","messages":[{"role":"user","content":"x"}],"stream":true,"stream_options":{"include_usage":true}}',
        b'{"model":"mixtral","prompt":"x","stream":true}',
        b'{"model":"mixtral","prompt":[1,2,3]}',
        b"{" * 100,
        b'\xff\xfe{"model"',
        b'{"model":"mixtral","prompt":"' + b"x" * (BODY_BYTES - 40) + b'"}',
        b'{"model":"mixtral","prompt":"' + b"x" * BODY_BYTES + b'"}',
    ]
)
BODIES = st.integers(1, 5).flatmap(lambda drawn: ODD_BODIES if drawn == 5 else GOOD_BODIES)


@st.composite
def framings(draw: st.DrawFn, body: bytes) -> tuple[str, bytes]:
    """Return the headers that say how long a body is, and the body as it is sent."""
    kind = draw(_mostly(("length", "length", "chunked"), "both", "twice", "none", "short", "bad chunk", "odd"))
    if kind in ("length", "short", "twice"):
        length = max(len(body) - 3, 0) if kind == "short" else len(body)
        return "\r\n".join([f"content-length: {length}"] * (2 if kind == "twice" else 1)), body
    if kind == "none":
        return "", b""
    if kind == "odd":
        return draw(st.sampled_from(["content-length: +5", "content-length: 0x5", "transfer-encoding: gzip"])), body
    size = draw(st.integers(1, 4000))
    chunks = (
        [body[i : i + size] for i in range(0, len(body), max(size, len(body) // 50))] if size < len(body) else [body]
    )
    whole = b"".join(chunks)
    rest = body[len(whole) :]
    parts = [
        f"{len(each):x}{draw(st.sampled_from(['', ';a=b']))}\r\n".encode() + each + b"\r\n"
        for each in (*chunks, rest)
        if each
    ]
    end = draw(st.sampled_from([b"0\r\n\r\n", b"0\r\nx-trailer: 1\r\n\r\n", b"000\r\n\r\n"]))
    if kind == "bad chunk":
        end = b"zz\r\n\r\n"
    beside = f"\r\ncontent-length: {len(body)}" if kind == "both" else ""
    return f"Transfer-Encoding: chunked{beside}", b"".join(parts) + end


@st.composite
def heads(draw: st.DrawFn) -> tuple[str, list[str]]:
    """Return the method and the lines of a head without what says how long the body is."""
    method = draw(METHODS)
    version = draw(_mostly(("1.1",), "1.0", "1.1", "2.0"))
    lines = [f"{method} {draw(TARGETS)} HTTP/{version}"]
    return method, lines + [draw(each) for each in (HOSTS, KEYS, KINDS, IDS, EXTRAS)]


@st.composite
def sents(draw: st.DrawFn, head: tuple[str, list[str]], *, last: bool) -> Sent:
    method, lines = head
    body = draw(BODIES)
    length, framed = draw(framings(body))
    lines = [*lines, length, "connection: close" if last else ""]
    return Sent(method, "\r\n".join([*filter(None, lines), "", ""]).encode("latin-1") + framed)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    count = draw(st.sampled_from([1, 1, 2, 3]))
    requests = tuple(draw(sents(draw(heads()), last=number == count - 1)) for number in range(count))
    size = sum(len(each.data) for each in requests)
    cuts = draw(st.lists(st.integers(0, size), max_size=4).map(sorted))
    return Case(requests, tuple(cuts), draw(st.booleans()))


@st.composite
def kept(draw: st.DrawFn) -> Case:
    """Draw requests with one head, as a client sends them over the connection that it keeps."""
    head = draw(heads())
    requests = [draw(sents(head, last=last)) for last in (False, False, False, True)]
    return Case(tuple(requests), (), pipelined=False)


def broken() -> Case:
    """Return a stream whose model breaks off: few of those that are drawn come that far."""
    asked = {"model": "mixtral", "messages": [{"role": "user", "content": "x"}], "stream": True, "user": "breaks"}
    body = json.dumps(asked).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n"
    kind = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return Case((Sent("POST", (head + kind).encode() + body),), (), pipelined=False)


# What comes back.


@dataclass(frozen=True)
class Answer:
    """Without what differs from one time to the next: dates and ids of our making."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


_OURS = re.compile(rb"\b[0-9a-f]{32}\b")


class Reader:
    """Cuts the bytes of a connection into answers."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._held = b""
        self.answers: list[Answer] = []
        self.ended = False

    def _more(self) -> bool:
        try:
            data = self._sock.recv(65536)
        except ConnectionError:
            data = b""
        self._held += data
        self.ended = not data
        return bool(data)

    def answer(self, method: str) -> bool:
        """Read one answer, interim ones before it included; return whether a final one came whole."""
        while True:
            while b"\r\n\r\n" not in self._held:
                if not self._more():
                    return False
            head, _, self._held = self._held.partition(b"\r\n\r\n")
            lines = head.split(b"\r\n")
            status = int(lines[0].split(b" ")[1])
            headers = [(name, value) for name, _, value in (line.partition(b": ") for line in lines[1:])]
            named = dict(headers)
            body = b"" if method == "HEAD" or status < 200 else self._body(named)
            if body is None:
                return False
            kept = tuple((name, _OURS.sub(b"ID", value)) for name, value in headers if name != b"date")
            self.answers.append(Answer(status, kept, _OURS.sub(b"ID", body)))
            if status >= 200:
                return True

    def _body(self, headers: dict[bytes, bytes]) -> bytes | None:
        if b"content-length" in headers:
            length = int(headers[b"content-length"])
            while len(self._held) < length:
                if not self._more():
                    return None
            body, self._held = self._held[:length], self._held[length:]
            return body
        body = b""
        while True:
            while b"\r\n" not in self._held:
                if not self._more():
                    return None
            size, _, self._held = self._held.partition(b"\r\n")
            while len(self._held) < int(size, 16) + 2:
                if not self._more():
                    return None
            if not int(size, 16):
                self._held = self._held[2:]
                return body
            body, self._held = body + self._held[: int(size, 16)], self._held[int(size, 16) + 2 :]


def _pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    edges = [0, *cuts, len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges) if data[start:end]]


def play(url: str, case: Case) -> list[Answer]:
    """Send `case` to the gateway at `url`; return its answers, up to where the connection ends."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=_WAIT_S) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = Reader(sock)
        whole = b"".join(each.data for each in case.requests)
        if case.pipelined or len(case.requests) == 1:
            batches = [(_pieces(whole, case.cuts), [each.method for each in case.requests])]
        else:
            batches = [([each.data], [each.method]) for each in case.requests]
        for pieces, methods in batches:
            try:
                for piece in pieces:
                    sock.sendall(piece)
            except ConnectionError:
                pass
            for method in methods:
                if not reader.answer(method):
                    return reader.answers
        return reader.answers
