"""Runs hostile requests against a server of which only URL and key are known, and says what it did wrong."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace

from hxp_harness.errors import NotReady
from hxp_harness.security import authentication, bad_input, elsewhere
from hxp_harness.security.case import Case, Expected, key_header, request_of, sound_bytes
from hxp_harness.target import Target

MAX_ERROR_BYTES = 8192
_HERE = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `status` 0: no answer; `how` says why: closed, reset, silent or refused."""

    status: int
    body: bytes = b""
    headers: str = ""
    how: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a server did wrong; `problem` never repeats a secret."""

    case: str
    problem: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found. `not_proven` says why it could not run; then it is not ok."""

    cases: int
    findings: tuple[Finding, ...] = ()
    not_proven: str = ""

    @property
    def ok(self) -> bool:
        return self.cases > 0 and not self.findings and not self.not_proven


def check_authentication(target: Target, *, timeout_s: float = 10.0) -> Report:
    """Try every variant of authentication; raise NotReady when the right key is not accepted."""
    if not target.api_key:
        return Report(0, not_proven="the target has no key, so nothing can be refused")
    return run(target, authentication.cases(target), timeout_s=timeout_s)


def check_bad_input(target: Target, *, timeout_s: float = 10.0) -> Report:
    """Send every bad body and framing; raise NotReady when not even a sound request is accepted."""
    return run(target, bad_input.cases(target), timeout_s=timeout_s)


def check_addresses(target: Target, *, timeout_s: float = 10.0) -> Report:
    """Name another server wherever an address may stand, and listen there; raise NotReady as `run` does.

    Whether the request is taken is left to the server; that it goes there, or has no right answer, is a finding.
    """
    if target.host not in _HERE:
        return Report(0, not_proven="the target is on another host, which cannot reach the listener on 127.0.0.1")
    with elsewhere.canary() as listening:
        cases = elsewhere.cases(target, listening)
        report = run(target, cases, timeout_s=timeout_s)
    went = tuple(Finding(*each) for each in elsewhere.contacts(cases, listening))
    return replace(report, findings=(*report.findings, *went))


def run(target: Target, cases: Iterable[Case], *, timeout_s: float = 10.0) -> Report:
    """Run `cases` one after the other, between two sound requests that must be accepted."""
    before = _sound(target, timeout_s)
    if before.status != 200:
        raise NotReady(
            f"{target.base_url} does not accept a sound request (status {before.status}{_because(before)}), "
            "so its refusals prove nothing",
            hint="check --api-model and --api-key-env",
        )
    findings: list[Finding] = []
    count = 0
    for case in cases:
        count += 1
        answer = exchange(target, case.build(target), timeout_s)
        findings += [Finding(case.name, problem) for problem in problems(case, answer)]
    after = _sound(target, timeout_s)
    if after.status != 200:
        findings.append(Finding("afterwards", f"a sound request gets status {after.status}{_because(after)}"))
    return Report(count, tuple(findings))


def problems(case: Case, answer: Answer) -> list[str]:
    """Return what is wrong with an answer. Pure."""
    if answer.how == "silent":
        return ["no answer and no end of the connection in time"]
    if answer.status == 0:
        allowed = case.expected is Expected.BROKEN_OFF or (answer.how == "closed" and case.name.startswith("framing"))
        return [] if allowed else [f"the connection was {answer.how} without an answer"]
    found = _wrong_status(case.expected, answer.status)
    if answer.status >= 400:
        if len(answer.body) > MAX_ERROR_BYTES:
            found.append(f"the error has {len(answer.body)} bytes, {MAX_ERROR_BYTES} is allowed")
        if any(secret in _text(answer) for secret in case.secrets):
            found.append("the error says what was sent")
        if case.expected is not Expected.BROKEN_OFF and answer.status < 500 and not openai_shaped(answer.body):
            found.append("the error is not OpenAI-shaped")
    return found


def openai_shaped(body: bytes) -> bool:
    """Return whether `body` is an object `error` with a message and a type."""
    try:
        said = json.loads(body)
    except ValueError:
        return False
    error = said.get("error") if isinstance(said, dict) else None
    return isinstance(error, dict) and isinstance(error.get("message"), str) and isinstance(error.get("type"), str)


def exchange(target: Target, request: bytes, timeout_s: float) -> Answer:
    """Send raw bytes on a connection of their own and read one answer."""
    try:
        with _connected(target, timeout_s) as sock:
            with suppress(BrokenPipeError, ConnectionResetError):  # refused early: the answer may be there
                sock.sendall(request)
            return _read(sock)
    except TimeoutError:
        return Answer(0, how="silent")
    except ConnectionRefusedError:
        return Answer(0, how="refused")
    except OSError:
        return Answer(0, how="reset")


def _connected(target: Target, timeout_s: float) -> socket.socket:
    sock = socket.create_connection((target.host, target.port), timeout=timeout_s)
    if not target.tls:
        return sock
    return ssl.create_default_context().wrap_socket(sock, server_hostname=target.host)


def _read(sock: socket.socket) -> Answer:
    response = http.client.HTTPResponse(sock, method="POST")
    try:
        response.begin()
        return Answer(response.status, response.read(), str(response.headers))
    except http.client.IncompleteRead as error:
        return Answer(response.status, error.partial, str(response.headers))
    except http.client.HTTPException:
        return Answer(0, how="closed")
    finally:
        response.close()


def _wrong_status(expected: Expected, status: int) -> list[str]:
    if status >= 500:
        return [f"status {status}: the server broke"]
    right = {
        Expected.ACCEPTED: status == 200,
        Expected.REFUSED: 400 <= status < 500,
        Expected.TOLERATED: True,
        Expected.BROKEN_OFF: 400 <= status < 500,
    }
    return [] if right[expected] else [f"status {status} where it should be {expected}"]


def _sound(target: Target, timeout_s: float) -> Answer:
    return exchange(target, request_of(target, key_header(target), sound_bytes(target)), timeout_s)


def _text(answer: Answer) -> str:
    return answer.headers + answer.body.decode("utf-8", "replace")


def _because(answer: Answer) -> str:
    return f", {answer.how}" if answer.how else ""
