"""The checks pass a sound server and catch every way in which one is broken on purpose."""

from __future__ import annotations

import asyncio
import hmac
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import httptools
import httpx
import pytest

from hxp_harness.errors import NotReady
from hxp_harness.faults.background import Background
from hxp_harness.faults.listener import Listener
from hxp_harness.security import authentication, bad_input
from hxp_harness.security.case import CANARY, Case, Expected, request_of, sound_body
from hxp_harness.security.checks import (
    Answer,
    Finding,
    check_addresses,
    check_authentication,
    check_bad_input,
    exchange,
    openai_shaped,
    problems,
    run,
)
from hxp_harness.target import Target

KEY = "sk-Correct-Horse-42"
TARGET = Target("http://127.0.0.1:1/v1", "m", KEY)


@dataclass(frozen=True)
class Said:
    """What a request said: status is what a sound server answers."""

    status: int
    authorization: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


Break = Callable[[Said], "bytes | None"]  # an answer instead of the sound one; None leaves it


def reply(status: int, body: object) -> bytes:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(text)}\r\nconnection: close"
    return f"{head}\r\n\r\n".encode() + text


def error(status: int, message: str = "refused") -> bytes:
    return reply(status, {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}})


class Server:
    """Accepts one body with one key, refuses everything else; `broken` answers first, and None is silence."""

    def __init__(self, broken: Break) -> None:
        self.broken = broken
        self.requests = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests += 1
        try:
            answer = self.answer(await self.read(reader))
            if answer == b"silence":
                await reader.read()
            writer.write(answer)
            await writer.drain()
        except OSError:
            pass

    async def read(self, reader: asyncio.StreamReader) -> Said:
        headers: list[tuple[str, str]] = []
        body = bytearray()
        paths: list[bytes] = []
        done: list[bool] = []

        class Parsed:
            def on_url(self, url: bytes) -> None:
                paths.append(url.partition(b"?")[0])

            def on_header(self, name: bytes, value: bytes) -> None:
                headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

            def on_body(self, part: bytes) -> None:
                body.extend(part)

            def on_message_complete(self) -> None:
                done.append(True)

        parser = httptools.HttpRequestParser(Parsed())
        size = 0
        while not done:
            received = await reader.read(1 << 20)
            size += len(received)
            try:
                parser.feed_data(received)
            except (httptools.HttpParserError, httptools.HttpParserUpgrade):
                return Said(400, "", b"")
            if not received or (size > 65536 and not headers):
                return Said(431, "", b"")
        keys = [value for name, value in headers if name == "authorization"]
        long = sum(len(name) + len(value) for name, value in headers) > 32768
        known = paths == [b"/v1/chat/completions"]
        status = 431 if long else self.status(keys, bytes(body)) if known else 404
        return Said(status, keys[0] if len(keys) == 1 else "", bytes(body), tuple(headers))

    def status(self, keys: list[str], body: bytes) -> int:
        if len(keys) != 1 or not hmac.compare_digest(keys[0].encode(), f"Bearer {KEY}".encode()):
            return 401
        try:
            return 200 if json.loads(body) == sound_body(TARGET) else 400
        except (ValueError, RecursionError):
            return 400

    def answer(self, said: Said) -> bytes:
        broken = self.broken(said)
        if broken is not None:
            return broken
        return reply(200, {"choices": []}) if said.status == 200 else error(said.status)


def sound(_: Said) -> bytes | None:
    return None


@contextmanager
def serving(broken: Break = sound) -> Iterator[tuple[Target, Server]]:
    server = Server(broken)
    listener = Listener(server.serve)
    with Background() as background:
        port = background.run(listener.open(limit=1 << 20))
        try:
            yield replace(TARGET, base_url=f"http://127.0.0.1:{port}/v1"), server
        finally:
            background.run(listener.close())


def test_tables_are_as_large_as_promised() -> None:
    """500 variants of authentication for a key of 40, 300 bodies and 60 framings, each with a name of its own."""
    target = replace(TARGET, api_key="hxp-" + "aB3_" * 9)
    names = Counter(case.name for case in (*authentication.cases(target), *bad_input.cases(target)))
    kinds = Counter(name.partition(":")[0] for name in names)

    assert names.most_common(1)[0][1] == 1
    assert kinds["authentication"] >= 500
    assert kinds["body"] + kinds["field"] >= 300
    assert kinds["framing"] >= 60


def test_a_sound_server_has_no_findings() -> None:
    """A server that accepts exactly the sound request passes both checks, and really was asked."""
    with serving() as (target, server):
        signed = check_authentication(target)
        read = check_bad_input(target)

    assert signed.findings == ()
    assert read.findings == ()
    assert signed.ok
    assert read.ok
    assert server.requests == signed.cases + read.cases + 4


MUTANTS: dict[str, tuple[Break, str, str]] = {
    "lets anybody in": (
        lambda said: reply(200, {}) if said.status == 401 else None,
        "authentication: missing",
        "status 200 where it should be refused",
    ),
    "compares a prefix of the key": (
        lambda said: reply(200, {}) if f"Bearer {KEY}".startswith(said.authorization or "?") else None,
        "authentication: last character missing",
        "status 200 where it should be refused",
    ),
    "ignores the case of the key": (
        lambda said: reply(200, {}) if said.authorization.lower() == f"bearer {KEY}".lower() else None,
        "authentication: case swapped",
        "status 200 where it should be refused",
    ),
    "says the key": (
        lambda said: error(401, f"not {said.authorization}") if said.status == 401 else None,
        "authentication: twice",
        "the error says what was sent",
    ),
    "falls over non-ASCII keys": (
        lambda said: error(500) if not said.authorization.isascii() else None,
        "authentication: accent",
        "status 500: the server broke",
    ),
    "echoes the body": (
        lambda said: error(400, said.body.decode("latin-1")) if said.status == 400 else None,
        "body: string",
        "the error says what was sent",
    ),
    "falls over NaN": (
        lambda said: error(500) if b"NaN" in said.body else None,
        "field: NaN",
        "status 500: the server broke",
    ),
    "takes 1e400": (
        lambda said: reply(200, {}) if b"1e400" in said.body else None,
        "field: 1e400 as temperature",
        "status 200 where it should be refused",
    ),
    "drops the connection on depth": (
        lambda said: b"" if b"[[[[" in said.body else None,
        "body: deep arrays",
        "the connection was closed without an answer",
    ),
    "writes too much": (
        lambda said: error(400, "x" * 9000) if said.status == 400 else None,
        "body: empty",
        "the error has 9",
    ),
    "has a shape of its own": (
        lambda said: reply(422, {"detail": []}) if said.status == 400 else None,
        "body: empty",
        "the error is not OpenAI-shaped",
    ),
    "hangs": (
        lambda said: b"silence" if b"Infinity" in said.body else None,
        "field: infinity",
        "no answer and no end of the connection in time",
    ),
}


@pytest.mark.parametrize(("broken", "case", "problem"), MUTANTS.values(), ids=MUTANTS)
def test_every_mutant_is_caught(broken: Break, case: str, problem: str) -> None:
    """A server broken in one way is caught by the case that is about it."""
    check = check_authentication if case.startswith("authentication") else check_bad_input
    with serving(broken) as (target, _):
        report = check(target, timeout_s=0.5)

    assert not report.ok
    found = [finding for finding in report.findings if finding.case == case]
    assert found, report.findings
    assert found[0].problem.startswith(problem)
    assert KEY not in repr(report)
    assert CANARY not in repr(report)


def _goes(said: Said) -> bytes | None:
    """Ask whatever the body names."""
    for url in dict.fromkeys(re.findall(rb"http://127\.0\.0\.1:\d+/\d+", said.body)):
        httpx.get(url.decode(), trust_env=False)
    return None


def _follows(said: Said) -> bytes | None:
    """Ask the host that a proxy is said to have been asked for."""
    for name, value in said.headers:
        if name == "x-forwarded-host":
            httpx.get(f"http://{value}/", trust_env=False)
    return None


@pytest.mark.owasp("API7:2023")
@pytest.mark.parametrize(
    ("broken", "finding"),
    [
        (_goes, Finding("address: content image", "the server asked another one for '/0'")),
        (_goes, Finding("address: field lora_path", "the server asked another one for '/24'")),
        (_follows, Finding("address", "the server asked another one for '/'")),
    ],
)
def test_a_server_that_goes_elsewhere_is_caught(broken: Break, finding: Finding) -> None:
    """A server that asks what a body or a header names is told by the place that named it, where that is known."""
    with serving(broken) as (target, _):
        assert finding in check_addresses(target).findings


def test_a_server_that_stays_at_home_is_told_so_where_it_can_be_heard() -> None:
    """A server that asks nobody has no finding; one on another host cannot reach the listener: not proven."""
    with serving() as (target, _):
        assert check_addresses(target).ok
    report = check_addresses(replace(TARGET, base_url="http://another.test:80/v1"))
    assert (report.cases, report.ok) == (0, False)
    assert "another host" in report.not_proven


def test_a_server_that_dies_of_it_is_caught() -> None:
    """A server that no longer serves afterwards is a finding, even if each answer was right."""
    died: list[bool] = []

    def dies(said: Said) -> bytes | None:
        died.extend([True] * (b"NaN" in said.body))
        return error(503) if died and said.status == 200 else None

    with serving(dies) as (target, _):
        report = check_bad_input(target)
    assert Finding("afterwards", "a sound request gets status 503") in report.findings


def test_no_key_is_not_proven() -> None:
    """Without a key nothing can be refused: not proven, and not ok."""
    report = check_authentication(replace(TARGET, api_key=""))
    assert (report.cases, report.ok) == (0, False)
    assert "no key" in report.not_proven


def test_no_cases_are_no_proof() -> None:
    """A run over no cases is not ok."""
    with serving() as (target, _):
        assert not run(target, []).ok


def test_a_server_that_takes_nothing_proves_nothing() -> None:
    """Where not even the sound request is accepted, refusals prove nothing."""
    with serving(lambda _: error(401)) as (target, _), pytest.raises(NotReady, match="status 401"):
        check_bad_input(target)
    with pytest.raises(NotReady, match="status 0, refused"):
        check_bad_input(TARGET)


@pytest.mark.parametrize(
    ("expected", "answer", "wrong"),
    [
        (Expected.BROKEN_OFF, Answer(0, how="closed"), False),
        (Expected.BROKEN_OFF, Answer(0, how="reset"), False),
        (Expected.BROKEN_OFF, Answer(400, b"Invalid HTTP request received."), False),
        (Expected.BROKEN_OFF, Answer(200), True),
        (Expected.BROKEN_OFF, Answer(0, how="silent"), True),
        (Expected.REFUSED, Answer(0, how="reset"), True),
        (Expected.TOLERATED, Answer(200), False),
        (Expected.TOLERATED, Answer(500), True),
        (Expected.ACCEPTED, Answer(401, b'{"error": {"message": "", "type": ""}}'), True),
        (Expected.REFUSED, Answer(400, b'{"error": {"message": "", "type": ""}}'), False),
        (Expected.REFUSED, Answer(400, b'{"error": {"message": "", "type": ""}}', headers=f"x: {CANARY}"), True),
        (Expected.REFUSED, Answer(302), True),
    ],
)
def test_what_counts_as_wrong(expected: Expected, answer: Answer, *, wrong: bool) -> None:
    """Each class of expectation allows what it says and no more."""
    assert bool(problems(Case("x", expected, lambda _: b""), answer)) is wrong


@pytest.mark.parametrize("body", [b"", b"[]", b'{"error": "Unauthorized"}', b'{"error": {"message": 1, "type": "a"}}'])
def test_shapes_that_are_not_openais(body: bytes) -> None:
    """An error is an object with a message and a type."""
    assert not openai_shaped(body)


def test_a_broken_off_answer_is_read_as_far_as_it_came() -> None:
    """An answer shorter than its announced length is judged by what came."""
    with serving(lambda said: reply(400, b"x" * 50)[:-20] if said.status == 400 else None) as (target, _):
        answer = exchange(target, request_of(target, (b"authorization: Bearer " + KEY.encode(),), b"{}"), 5.0)
    assert (answer.status, len(answer.body)) == (400, 30)


def test_other_key_shapes_make_sound_tables() -> None:
    """Keys of one character and of digits alone give tables in which no wrong variant is the right key."""
    for key in ("a", "1234", "X" * 200):
        target = replace(TARGET, api_key=key)
        right = f"\r\nauthorization: Bearer {key}\r\n".encode()
        refused: list[Any] = [case for case in authentication.cases(target) if case.expected is Expected.REFUSED]
        assert len(refused) >= 300
        assert not [case.name for case in refused if right in case.build(target) + b"\r\n"]
