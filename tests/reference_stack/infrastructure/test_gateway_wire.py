"""What models' servers may put on a connection, and what the gateway makes of it for this request and the next."""

from __future__ import annotations

import pytest

from tests.reference_stack.infrastructure.conftest import DONE, TEXTS, WHOLE, Gateway, Script, Wire, chat, eventually

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
LENGTH = b"content-length: %d\r\n\r\n" % len(WHOLE)


def sends(*parts: bytes, keeps: bool = True) -> Script:
    """Send these bytes as they are; close behind them unless the connection is kept."""

    async def script(wire: Wire) -> None:
        wire.keeps = keeps
        for part in parts:
            await wire.send(part)

    return script


WELL = {
    "interim": sends(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + HEAD + LENGTH + WHOLE
    ),
    "until_close": sends(HEAD + b"\r\n" + WHOLE, keeps=False),
    "http_1_0": sends(b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n", WHOLE, keeps=False),
    "byte_by_byte": sends(*(bytes([byte]) for byte in HEAD + LENGTH + WHOLE)),
    "extension_and_trailer": sends(
        HEAD + b"transfer-encoding: chunked\r\n\r\n%x;a=b\r\n%b\r\n0\r\nx-t: 1\r\n\r\n" % (len(WHOLE), WHOLE)
    ),
}


@pytest.mark.parametrize("name", WELL)
def test_an_answer_in_any_lawful_form(gateway: Gateway, name: str) -> None:
    """However a server frames and cuts its answer, the client gets the same bytes."""
    gateway.backend.script = WELL[name]

    for _ in range(2):
        reply = gateway.post(chat())
        assert (reply.status_code, reply.content) == (200, WHOLE)


BAD = {
    "upgrade": sends(b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"),
    "endless_head": sends(HEAD + b"x-long: " + b"y" * 100_000),
    "endless_interim": sends(b"HTTP/1.1 100 Continue\r\n\r\n" * 5000),
    "two_lengths": sends(HEAD + b"content-length: 1\r\ncontent-length: 2\r\n\r\n{}"),
    "length_and_chunks": sends(HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    "short": sends(HEAD + b"content-length: 5000\r\n\r\n" + WHOLE, keeps=False),
    "negative_length": sends(HEAD + b"content-length: -1\r\n\r\n" + WHOLE),
    "huge_chunk": sends(HEAD + b"transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n" + WHOLE),
    "eof_in_chunk": sends(HEAD + b"transfer-encoding: chunked\r\n\r\nff\r\n{", keeps=False),
}


@pytest.mark.parametrize("name", BAD)
def test_an_answer_in_no_lawful_form(gateway: Gateway, name: str) -> None:
    """What can be read two ways, or has no end, is a 502 at once; its connection serves nobody after it."""
    gateway.backend.script = BAD[name]

    assert gateway.post(chat()).status_code == 502
    assert gateway.usage.last().outcome == "failed"
    gateway.backend.script = sends(HEAD + LENGTH + WHOLE)
    assert gateway.post(chat()).content == WHOLE
    ports = [each.client_port for each in gateway.backend.asked]
    assert len(ports) == len(set(ports)) >= 2


@pytest.mark.parametrize("extra", [WHOLE, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", b"garbage"])
def test_bytes_behind_an_answer_reach_nobody(gateway: Gateway, extra: bytes) -> None:
    """What a server sends beyond the end of an answer is no part of it, nor of the next one."""
    gateway.backend.script = sends(HEAD + LENGTH + WHOLE + extra)

    for _ in range(3):
        assert gateway.post(chat()).content == WHOLE
    ports = [each.client_port for each in gateway.backend.asked]
    assert len(ports) == len(set(ports)) == 3


def test_connections_are_kept(gateway: Gateway) -> None:
    """Requests one after another share connections; a stream's is free again just behind its [DONE]."""
    for number in range(6):
        stream = number % 2 == 1
        assert gateway.post(chat(stream=stream)).content == (b"".join((*TEXTS, DONE)) if stream else WHOLE)

    assert len({each.client_port for each in gateway.backend.asked}) <= 2


def test_an_idle_connection_is_given_up_first(gateway: Gateway) -> None:
    """A free connection is closed by us, well before a server of 5 s would do it at the wrong moment."""

    async def waits(wire: Wire) -> None:
        wire.keeps = False
        await wire.send(HEAD + LENGTH + WHOLE)
        await wire.wait_gone()

    gateway.backend.script = waits
    assert gateway.post(chat()).content == WHOLE
    assert eventually(lambda: gateway.backend.asked[0].gone_at_s, within_s=4.5)


def test_an_answer_before_the_whole_request(gateway: Gateway) -> None:
    """A server that refuses while the request is still being sent is heard, and its connection is not used again."""
    body = chat(messages=[{"role": "user", "content": "x" * 3_000_000}])

    async def hasty(wire: Wire) -> None:
        await wire.answer(b"{}", 429, "text/plain", "retry-after: 2")

    gateway.backend.script = hasty
    reply = gateway.post(body)
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "2")
